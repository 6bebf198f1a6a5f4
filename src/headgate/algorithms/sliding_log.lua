-- The sliding log: see sliding_log.py, whose steps these are.
-- Stored as a list: the total, then "instant cost" for each entry, oldest first.
local sliding_log = {}

local function entry_at(key, index)
  local entry = redis.call('LINDEX', key, index)
  if not entry then return nil end
  local instant, cost = string.match(entry, '^(%d+) (%d+)$')
  return tonumber(instant), tonumber(cost)
end

-- As if the clock had stood still: a log of our own, which `write_shifted` writes.
local function shift(log)
  local shifted, step = {}, log.newest - now
  for _, entry in ipairs(redis.call('LRANGE', log.key, 1, -1)) do
    local instant, cost = string.match(entry, '^(%d+) (%d+)$')
    instant, cost = math.max(0, instant - step), tonumber(cost)
    if instant + log.period > now then
      shifted[#shifted + 1] = {instant, cost}
    else
      log.total = log.total - cost
    end
  end
  log.newest, log.shifted = now, shifted
  return log
end

local function settle(key)
  local log = {key = key, cost = number(), most = number(), period = number(), total = 0, newest = 0, free_at = 0}
  local total = redis.call('LINDEX', key, 0)
  if not total then return log end
  log.total = tonumber(total)
  log.newest = entry_at(key, -1)
  if log.newest > now then return shift(log) end
  if log.newest + log.period <= now then -- all of it is out of view
    redis.call('DEL', key)
    log.total, log.newest = 0, 0
    return log
  end
  local instant, cost = entry_at(key, 1)
  if instant + log.period > now then return log end
  redis.call('LPOP', key)
  repeat
    redis.call('LPOP', key)
    log.total = log.total - cost
    instant, cost = entry_at(key, 0)
  until instant + log.period > now
  redis.call('LPUSH', key, integer(log.total))
  return log
end

local function write_shifted(log)
  if not log.shifted then return end
  local words = {integer(log.total)}
  redis.call('DEL', log.key)
  for index, entry in ipairs(log.shifted) do
    words[#words + 1] = string.format('%.0f %.0f', entry[1], entry[2])
    if #words == 1000 or index == #log.shifted then
      redis.call('RPUSH', log.key, unpack(words))
      words = {}
    end
  end
  redis.call('PEXPIREAT', log.key, expires_at_ms(log.newest + log.period))
  log.shifted = nil
end

local function entry_of(log, index)
  if not log.shifted then return entry_at(log.key, index) end
  local entry = log.shifted[index]
  if entry then return entry[1], entry[2] end
end

function sliding_log.judge(key, max_wait)
  local log = settle(key)
  log.allowed = log.total + log.cost <= log.most
  if not log.allowed then
    local left, index = log.total, 1
    local instant, spent = entry_of(log, index)
    while instant do
      left = left - spent
      if left + log.cost <= log.most then
        log.free_at = instant + log.period
        break
      end
      index = index + 1
      instant, spent = entry_of(log, index)
    end
  end
  return log
end

function sliding_log.spend(log)
  write_shifted(log)
  if log.cost == 0 then return end
  log.total = log.total + log.cost
  local entry = string.format('%.0f %.0f', now, log.cost)
  if log.newest == 0 then
    redis.call('RPUSH', log.key, integer(log.total), entry)
  else
    redis.call('LSET', log.key, 0, integer(log.total))
    redis.call('RPUSH', log.key, entry)
  end
  log.newest = now
  redis.call('PEXPIREAT', log.key, expires_at_ms(log.newest + log.period))
end

function sliding_log.keep(log, action)
  if action == 'spend' then write_shifted(log) end
end

function sliding_log.give_back(key)
  local log = settle(key)
  local instant, spent = number(), number()
  write_shifted(log)
  if log.newest == 0 then return log end
  local index = redis.call('LPOS', key, string.format('%.0f %.0f', instant, spent))
  if not index then return log end
  local rest = math.max(0, spent - log.cost)
  log.total = log.total - (spent - rest)
  redis.call('LSET', key, 0, integer(log.total))
  if rest > 0 then
    redis.call('LSET', key, index, string.format('%.0f %.0f', instant, rest))
    return log
  end
  redis.call('LSET', key, index, 'given back')
  redis.call('LREM', key, 1, 'given back')
  log.newest = redis.call('LLEN', key) > 1 and entry_at(key, -1) or 0
  if log.newest == 0 then
    redis.call('DEL', key)
  else
    redis.call('PEXPIREAT', key, expires_at_ms(log.newest + log.period))
  end
  return log
end

function sliding_log.take(key)
  local log = settle(key)
  sliding_log.spend(log)
  return log
end

function sliding_log.report(log)
  answer(log.total)
  answer(log.newest)
  answer(log.free_at)
end

algorithms.sl = sliding_log
