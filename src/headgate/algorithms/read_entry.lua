-- Reads an entry, for those who list them: behind entry_values.lua.
--
-- KEYS: one. ARGV: now, as ever; and what is kept there: "string", "list" or "set".
-- Reply: {now, for how many milliseconds it is kept from now on, the values}; -2 milliseconds if there is none.
local key, kind = KEYS[1], text()
local left = redis.call('PTTL', key)
if left >= 0 then left = left - (more - more % 1000) / 1000 end
local values = values_of(key, kind)
if values.err then
  if not string.find(values.err, 'WRONGTYPE', 1, true) then return values end
  values = {} -- what is of another kind is not ours
end
return {now, left, values}
