-- Concurrency: see concurrency.py, whose steps these are. Stored as a sorted set of "holder:number" by expiry.
local concurrency = {}

local function expiry_of(key, index)
  local found = redis.call('ZRANGE', key, index, index, 'WITHSCORES')
  return found[2] and tonumber(found[2]) or 0
end

-- Lets no slot expire later than its holder's ttl from now, where the holder's name tells it.
local function shorten(slots)
  local late = redis.call('ZRANGE', slots.key, '(' .. integer(slots.expiry), '+inf', 'BYSCORE', 'WITHSCORES')
  for i = 1, #late, 2 do
    local own = string.match(late[i], '^%x+%.(%d+):%d+$')
    if own and tonumber(late[i + 1]) > now + own then redis.call('ZADD', slots.key, integer(now + own), late[i]) end
  end
  slots.last = expiry_of(slots.key, -1)
end

local function settle(key)
  local slots = {key = key, cost = number(), most = number(), ttl = number(), holder = text(), free_at = 0}
  slots.expiry = now + slots.ttl
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  slots.held = redis.call('ZCARD', key)
  slots.last = slots.held > 0 and expiry_of(key, -1) or 0
  if slots.last > slots.expiry then shorten(slots) end
  return slots
end

function concurrency.judge(key, max_wait)
  local slots = settle(key)
  slots.allowed = slots.held + slots.cost <= slots.most
  if not slots.allowed and slots.held > 0 then
    slots.free_at = expiry_of(key, math.min(slots.held, slots.held + slots.cost - slots.most) - 1)
  end
  return slots
end

local function write(slots)
  if slots.held > 0 then redis.call('PEXPIREAT', slots.key, expires_at_ms(slots.last)) end
end

function concurrency.spend(slots)
  for i = 1, slots.cost do
    slots.held = slots.held + redis.call('ZADD', slots.key, integer(slots.expiry), slots.holder .. ':' .. i)
  end
  if slots.last > slots.expiry then
    slots.last = expiry_of(slots.key, -1)
  elseif slots.cost > 0 then
    slots.last = slots.expiry
  end
  write(slots)
end

function concurrency.give_back(key)
  local slots = settle(key)
  for i = 1, slots.cost do slots.held = slots.held - redis.call('ZREM', key, slots.holder .. ':' .. i) end
  slots.last = slots.held > 0 and expiry_of(key, -1) or 0
  write(slots)
  return slots
end

function concurrency.renew(key)
  local slots = settle(key)
  slots.allowed = true
  for i = 1, slots.cost do
    if not redis.call('ZSCORE', key, slots.holder .. ':' .. i) then slots.allowed = false end
  end
  if slots.allowed then concurrency.spend(slots) else write(slots) end
  return slots
end

function concurrency.report(slots)
  answer(slots.held)
  answer(slots.free_at)
  answer(slots.last)
end

algorithms.cc = concurrency
