-- The penalty: see penalty.py, whose steps these are. Stored as a list: the instant of each denial, oldest first; or
-- "=ends" alone. It is never emptied before something is added: a key that is gone is made anew at another node, where
-- its slot of a cluster is being moved.
local penalty = {}

local function arguments(key)
  local hit = {key = key, cost = number(), denials = number(), period = number(), block = number()}
  -- `size` denials are in view, behind `expired` that are not.
  hit.ends, hit.size, hit.newest, hit.expired = 0, 0, 0, 0
  return hit
end

local function instant_at(hit, index)
  return tonumber(redis.call('LINDEX', hit.key, index))
end

local function settle(hit)
  local first = redis.call('LINDEX', hit.key, 0)
  if not first then return end
  hit.is_stored = true
  local ends = tonumber(string.match(first, '^=(%d+)$'))
  if ends then
    if ends - now > hit.block then -- the clock stepped back
      hit.ends, hit.is_changed = now + hit.block, true
    elseif ends > now then
      hit.ends = ends
    else
      hit.expired = 1
    end
    return
  end
  local newest, size, expired = instant_at(hit, -1), redis.call('LLEN', hit.key), 0
  if newest > now then -- the clock stepped back
    local shifted = {}
    for _, instant in ipairs(redis.call('LRANGE', hit.key, 0, -1)) do
      local shifted_back = math.max(0, tonumber(instant) - (newest - now))
      if shifted_back + hit.period > now then shifted[#shifted + 1] = shifted_back end
    end
    hit.shifted, hit.size, hit.newest, hit.is_changed = shifted, #shifted, now, true
    return
  end
  local oldest = tonumber(first)
  while oldest and oldest + hit.period <= now do
    expired = expired + 1
    oldest = expired < size and instant_at(hit, expired)
  end
  hit.expired, hit.size = expired, size - expired
  if hit.size > 0 then hit.newest = newest end
end

function penalty.judge(key)
  local hit = arguments(key)
  settle(hit)
  hit.allowed = hit.ends == 0
  return hit
end

function penalty.count(hit)
  if hit.ends > 0 or hit.cost == 0 then return end
  hit.size, hit.newest, hit.is_new, hit.is_changed = hit.size + 1, now, true, true
  if hit.size >= hit.denials then hit.ends, hit.size, hit.newest = now + hit.block, 0, 0 end
end

local function write(hit)
  if hit.ends > 0 then
    redis.call('RPUSH', hit.key, '=' .. integer(hit.ends))
    redis.call('LTRIM', hit.key, -1, -1)
    redis.call('PEXPIREAT', hit.key, expires_at_ms(hit.ends))
  elseif hit.size > 0 then
    for _, instant in ipairs(hit.shifted or {}) do redis.call('RPUSH', hit.key, integer(instant)) end
    if hit.is_new then redis.call('RPUSH', hit.key, integer(now)) end
    if hit.shifted or hit.expired > 0 then redis.call('LTRIM', hit.key, -hit.size, -1) end
    redis.call('PEXPIREAT', hit.key, expires_at_ms(hit.newest + hit.period))
  elseif hit.is_stored then
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
  answer(hit.size)
  answer(hit.newest)
end

algorithms.pn = penalty
