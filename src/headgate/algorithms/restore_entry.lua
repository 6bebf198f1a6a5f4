-- Writes an entry, unless what is kept in its place lasts at least as long: behind clock.lua and prelude.lua.
--
-- KEYS: one. ARGV: now, as ever; until when it says something; "string", "list" or "set"; and the values.
-- Reply: 1 if it was written, or 0.
local key, until_us, kind = KEYS[1], number(), text()
if until_us <= now then return 0 end
local left = redis.call('PTTL', key)
if left >= 0 and left + (server_now - server_now % 1000) / 1000 >= expires_at_ms(until_us) then return 0 end
redis.call('DEL', key)
local command = kind == 'string' and 'SET' or kind == 'list' and 'RPUSH' or 'ZADD'
for first = at + 1, #words, 1000 do
  redis.call(command, key, unpack(words, first, math.min(first + 999, #words)))
end
redis.call('PEXPIREAT', key, expires_at_ms(until_us))
return 1
