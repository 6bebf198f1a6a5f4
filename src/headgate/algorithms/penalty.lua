-- The penalty: see penalty.py, whose steps these are. Stored as "ends", or "0 instant instant ...", oldest first.
local penalty = {}

local function arguments(key)
  return {key = key, cost = number(), denials = number(), period = number(), block = number(), ends = 0}
end

local function settle(hit)
  local stored = redis.call('GET', hit.key)
  if not stored then return end
  hit.stored = stored
  local numbers = string.gmatch(stored, '%d+')
  local ends = tonumber(numbers())
  if ends > 0 then
    if ends - now > hit.block then -- the clock stepped back
      hit.ends, hit.is_changed = now + hit.block, true
    elseif ends > now then
      hit.ends = ends
    end
    return
  end
  local shift = math.max(0, tonumber(string.match(stored, '%d+$')) - now)
  hit.is_changed = shift > 0
  for text in numbers do
    local instant = math.max(0, tonumber(text) - shift)
    if instant + hit.period > now then hit[#hit + 1] = instant end
  end
end

function penalty.judge(key)
  local hit = arguments(key)
  settle(hit)
  hit.allowed = hit.ends == 0
  return hit
end

function penalty.count(hit)
  if hit.ends > 0 or hit.cost == 0 then return end
  hit.is_changed = true
  hit[#hit + 1] = now
  if #hit >= hit.denials then
    hit.ends = now + hit.block
    for i = #hit, 1, -1 do hit[i] = nil end
  end
end

local function write(hit)
  local ends, size = hit.ends, #hit
  if ends > 0 then
    redis.call('SET', hit.key, integer(ends), 'PXAT', expires_at_ms(ends))
  elseif size > 0 then
    local words = {'0'}
    for i = 1, size do words[i + 1] = integer(hit[i]) end
    redis.call('SET', hit.key, table.concat(words, ' '), 'PXAT', expires_at_ms(hit[size] + hit.period))
  elseif hit.stored then
    redis.call('DEL', hit.key)
  end
end

penalty.spend = write

function penalty.keep(hit, action)
  if action == 'spend' and hit.is_changed then write(hit) end
end

function penalty.give_back(key)
  local hit = arguments(key)
  settle(hit)
  write(hit)
  return hit
end

function penalty.take(key)
  local hit = arguments(key)
  settle(hit)
  penalty.count(hit)
  write(hit)
  return hit
end

function penalty.report(hit)
  answer(hit.ends)
  answer(#hit)
  answer(hit[#hit] or 0)
end

algorithms.pn = penalty
