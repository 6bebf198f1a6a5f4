-- Many single hits of one cost on token buckets of one limit: what token_bucket_single.lua does, for a whole run of them, with
-- one reading of all keys and one writing of each. A key may come twice.
local FOREIGN = -9007199254740990

-- Judges the hits, whose arguments begin at word `at`, until one is not plain: that and those behind it have to go the
-- general way. Answers (n, r) for each as a single hit is answered, without `r` where a token is a whole number of
-- microseconds. Returns how many were judged.
function algorithms.each(keys)
  local cost_q, cost_r = tonumber(words[at + 2]), tonumber(words[at + 3])
  local most_q, most_r = now + tonumber(words[at + 4]), tonumber(words[at + 5])
  local rate_word = words[at + 6]
  local rate = tonumber(rate_word)
  local stored = redis.call('MGET', unpack(keys))
  local qs, rs, spent = {}, {}, {}
  local width = rate > 1 and 2 or 1
  local base, n, judged = #answers, #answers, 0
  for i = 1, #keys do
    local key = keys[i]
    local q, r = qs[key], rs[key]
    if not q then
      local value = stored[i]
      q, r = now, 0
      if value then
        q = tonumber(value)
        if not q then
          local known
          q, r, known = string.match(value, '^(%d+) (%d+) (%d+)$')
          if known ~= rate_word then break end
          q, r = tonumber(q), tonumber(r)
        end
        if q < now then q, r = now, 0 end
      end
    end
    local new_q, new_r = q + cost_q, r + cost_r
    if new_r >= rate then new_q, new_r = new_q + 1, new_r - rate end
    if new_q < most_q or (new_q == most_q and new_r <= most_r) then
      if not qs[key] then spent[#spent + 1] = i end
      q, r = new_q, new_r
      qs[key], rs[key] = q, r
      answers[n + 1] = q - now
    else
      if q > most_q or (q == most_q and r > most_r) then break end -- more than full: the clock has stepped back
      answers[n + 1] = now - q - 1
    end
    if width == 2 then answers[n + 2] = r end
    n = n + width
    judged = i
  end
  for j = 1, #spent do
    local first = spent[j]
    local key = keys[first]
    local q, r = qs[key], rs[key]
    local expiry, value = expires_at_ms(q), q
    if r > 0 then expiry, value = expires_at_ms(q + 1), string.format('%.0f %.0f %s', q, r, rate_word) end
    if q == now and r == 0 then -- nothing is owed, and nothing was taken
      if stored[first] then redis.call('DEL', key) end
    elseif stored[first] then
      redis.call('SET', key, value, 'PXAT', expiry)
    elseif not redis.call('SET', key, value, 'PXAT', expiry, 'NX') then -- what MGET did not read is no string
      for i = first, judged do
        if keys[i] == key then answers[base + (i - 1) * width + 1] = FOREIGN end
      end
    end
  end
  return judged
end
