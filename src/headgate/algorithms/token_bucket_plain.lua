-- The plainest hits, straight through: a group of one token bucket, to whose queue nobody has given a place back. That is
-- most of all traffic, and takes less than half the time that the general way takes (token_bucket.lua, whose steps these
-- are). What is not plain stops the loop, and the general way goes on from there.
local last = #ARGV
while at < last and ARGV[at + 1] == 'spend' and ARGV[at + 3] == '1' and ARGV[at + 5] == 'tb' do
  local key, rate = KEYS[key_at + 1], tonumber(ARGV[at + 10])
  local stored = redis.pcall('GET', key)
  if type(stored) == 'table' then break end -- not ours
  local q, r = now, 0
  if stored then
    q = tonumber(stored)
    if not q then
      local known
      q, r, known = string.match(stored, '^(%d+) (%d+) (%d+)$')
      if known ~= ARGV[at + 10] then break end
      q, r = tonumber(q), tonumber(r)
    end
    if q < now then q, r = now, 0 end
  end
  local new_q, new_r = q + tonumber(ARGV[at + 6]), r + tonumber(ARGV[at + 7])
  if new_r >= rate then new_q, new_r = new_q + 1, new_r - rate end
  local wait = new_q - now - tonumber(ARGV[at + 8])
  if new_r > tonumber(ARGV[at + 9]) then wait = wait + 1 end
  if wait < 0 then wait = 0 end
  local allowed = wait <= tonumber(ARGV[at + 2])
  if allowed then
    if q < now + wait then -- a turn is a whole microsecond, and counts as such
      new_q, new_r = now + wait + tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
    end
    q, r = new_q, new_r
    if q > now or r > 0 then
      local there = q + (server_now - now) + (r > 0 and 1 or 0)
      local value = r > 0 and string.format('%.0f %.0f %s', q, r, ARGV[at + 10]) or q
      redis.call('SET', key, value, 'PXAT', (there - there % 1000) / 1000 + 1)
    end
  end
  local n = #answers
  answers[n + 1], answers[n + 2], answers[n + 3], answers[n + 4] = allowed and 1 or 0, q - now, r, wait
  at, key_at = at + 10, key_at + 1
end
if at >= last then return answers end
