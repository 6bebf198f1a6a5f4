-- The sliding window over two counters: see sliding_window.py, whose steps these are.
-- Stored as "start current previous".
local sliding_window = {}

local function ceil_div(a, b)
  local rest = a % b
  return (a - rest) / b + (rest > 0 and 1 or 0)
end

local function settle(key)
  local window = {
    key = key, cost = number(), most = number(), period = number(), step = number(), steps = number(),
    current = 0, previous = 0,
  }
  local period = window.period
  local first = now - now % period
  window.start = first
  local stored = redis.call('GET', key)
  window.stored = stored
  if not stored then return window end
  local start, current, previous = string.match(stored, '^(%d+) (%d+) (%d+)$')
  start, current, previous = tonumber(start), tonumber(current), tonumber(previous)
  if start < first - period then return window end
  if start < first then
    window.previous = current
    return window
  end
  if start > now then -- the clock stepped back
    window.current, window.is_carried = current + previous, true
    return window
  end
  window.start, window.current, window.previous = start, current, previous
  return window
end

local function in_view(window)
  local left = math.min(window.steps, math.max(0, ceil_div(window.start + window.period - now, window.step)))
  local bound = (4503599627370496 - 4503599627370496 % window.steps) / window.steps
  return ceil_div(math.min(window.previous, bound) * left, window.steps)
end

function sliding_window.judge(key, max_wait)
  local window = settle(key)
  local used = window.current + in_view(window)
  window.allowed = used + window.cost <= window.most
  return window
end

local function write(window)
  local finish = window.start + window.period
  if window.current > 0 then
    finish = finish + window.period
  elseif window.previous == 0 then
    if window.stored then redis.call('DEL', window.key) end
    return
  end
  local value = string.format('%.0f %.0f %.0f', window.start, window.current, window.previous)
  redis.call('SET', window.key, value, 'PXAT', expires_at_ms(finish))
end

function sliding_window.spend(window)
  window.current = window.current + window.cost
  write(window)
end

function sliding_window.keep(window, action)
  if action == 'spend' and window.is_carried then write(window) end
end

function sliding_window.give_back(key)
  local window = settle(key)
  local receipt = number()
  if window.is_carried then
    write(window)
    return window
  end
  if window.start == receipt then
    window.current = math.max(0, window.current - window.cost)
  elseif window.start - window.period == receipt then
    window.previous = math.max(0, window.previous - window.cost)
  end
  write(window)
  return window
end

function sliding_window.take(key)
  local window = settle(key)
  sliding_window.spend(window)
  return window
end

function sliding_window.report(window)
  answer(window.start)
  answer(window.current)
  answer(window.previous)
end

algorithms.sw = sliding_window
