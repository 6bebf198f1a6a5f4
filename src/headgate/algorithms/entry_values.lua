-- The values of an entry, for those who list and restore them: behind clock.lua and prelude.lua.

-- By what is kept there, "string", "list" or "set". None if there is no such key; and an error has `err`.
local function values_of(key, kind)
  if kind == 'list' then return redis.pcall('LRANGE', key, 0, -1) end
  if kind == 'set' then return redis.pcall('ZRANGE', key, 0, -1, 'WITHSCORES') end
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then return value end
  return value and {value} or {}
end
