-- Concurrency: see concurrency.py, whose steps these are. Stored as a sorted set of "holder:number" by expiry.
local concurrency = {}

local function settle(key)
  local slots = {key = key, cost = number(), most = number(), ttl = number(), holder = text(), free_at = 0}
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  slots.held = redis.call('ZCARD', key)
  return slots
end

local function expiry_of(key, index)
  local found = redis.call('ZRANGE', key, index, index, 'WITHSCORES')
  return found[2] and tonumber(found[2]) or 0
end

function concurrency.judge(key, max_wait)
  local slots = settle(key)
  slots.allowed = slots.held + slots.cost <= slots.most
  if not slots.allowed then
    slots.free_at = expiry_of(key, math.min(slots.held, slots.held + slots.cost - slots.most) - 1)
  end
  return slots
end

local function write(slots)
  slots.held = redis.call('ZCARD', slots.key)
  if slots.held > 0 then redis.call('PEXPIREAT', slots.key, expires_at_ms(expiry_of(slots.key, -1))) end
end

function concurrency.spend(slots)
  for i = 1, slots.cost do
    redis.call('ZADD', slots.key, integer(now + slots.ttl), slots.holder .. ':' .. i)
  end
  write(slots)
end

function concurrency.give_back(key)
  local slots = settle(key)
  for i = 1, slots.cost do redis.call('ZREM', key, slots.holder .. ':' .. i) end
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
  answer(expiry_of(slots.key, -1))
end

algorithms.cc = concurrency
