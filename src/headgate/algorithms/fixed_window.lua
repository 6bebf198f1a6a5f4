-- The fixed window: see fixed_window.py, whose steps these are. Stored as "start spent".
local fixed_window = {}

local BOUNDARIES = 4

local function arguments(key)
  local window = {key = key, cost = number(), most = number()}
  local period = number()
  if period > 0 then
    window.start = now - now % period
    window.finish = window.start + period
    return window
  end
  local before
  for _ = 1, BOUNDARIES do
    local boundary = number()
    if before and before <= now and now < boundary then window.start, window.finish = before, boundary end
    before = boundary
  end
  if not window.start then is_stale = true end
  return window
end

local function settle(window)
  window.spent = 0
  local stored = redis.call('GET', window.key)
  window.stored = stored
  if not stored or is_stale then return end
  local start, spent = string.match(stored, '^(%d+) (%d+)$')
  start = tonumber(start)
  if start < window.start then return end
  window.spent = tonumber(spent)
  window.is_carried = start >= window.finish -- the clock stepped back
  if not window.is_carried then window.start = start end
end

function fixed_window.judge(key, max_wait)
  local window = arguments(key)
  settle(window)
  window.allowed = window.spent + window.cost <= window.most
  return window
end

local function write(window)
  if is_stale then return end
  if window.spent == 0 then
    if window.stored then redis.call('DEL', window.key) end
    return
  end
  local value = string.format('%.0f %.0f', window.start, window.spent)
  redis.call('SET', window.key, value, 'PXAT', expires_at_ms(window.finish))
end

function fixed_window.spend(window)
  window.spent = window.spent + window.cost
  write(window)
end

function fixed_window.keep(window, action)
  if action == 'spend' and window.is_carried then write(window) end
end

function fixed_window.give_back(key)
  local window = arguments(key)
  local receipt = number()
  settle(window)
  if window.start == receipt and not window.is_carried then
    window.spent = math.max(0, window.spent - window.cost)
  end
  write(window)
  return window
end

function fixed_window.take(key)
  local window = arguments(key)
  settle(window)
  fixed_window.spend(window)
  return window
end

function fixed_window.report(window)
  answer(window.start)
  answer(window.spent)
end

algorithms.fw = fixed_window
