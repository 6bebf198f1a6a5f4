-- Writes an entry in place of what was read there, unless that has changed: behind entry_values.lua.
--
-- KEYS: one. ARGV: now, as ever; until when it says something; "string", "list" or "set"; the SHA-1 of the values that
-- were read, joined by line breaks ("": write it whatever is there); and the values.
-- Reply: 1 if it was written, 0 if it says nothing any more, -1 if there is something else by now.
local key, until_us, kind, seen = KEYS[1], number(), text(), text()
if until_us <= now then return 0 end
local values = values_of(key, kind)
if values.err then values = {} end -- what is of another kind is not ours
if seen ~= '' and seen ~= redis.sha1hex(table.concat(values, '\n')) then return -1 end
redis.call('DEL', key)
local command = kind == 'string' and 'SET' or kind == 'list' and 'RPUSH' or 'ZADD'
for first = at + 1, #words, 1000 do
  redis.call(command, key, unpack(words, first, math.min(first + 999, #words)))
end
redis.call('PEXPIREAT', key, expires_at_ms(until_us))
return 1
