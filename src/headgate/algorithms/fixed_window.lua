-- The fixed window: see fixed_window.py, whose steps these are. Stored as "start spent".
local fixed_window = {}

local BOUNDARIES = 4

-- The window that an instant is in; nothing where the table does not say.
local function locate(window, instant)
  local period = window.period
  if period > 0 then
    local start = instant - instant % period
    return start, start + period
  end
  for i = 2, BOUNDARIES do
    if window[i - 1] <= instant and instant < window[i] then return window[i - 1], window[i] end
  end
end

local function arguments(key)
  local window = {key = key, cost = number(), most = number(), period = number()}
  if window.period == 0 then
    for i = 1, BOUNDARIES do window[i] = number() end
  end
  window.start, window.finish = locate(window, now)
  if not window.start then is_stale = true end
  return window
end

local function settle(window)
  window.spent = 0
  local stored = redis.call('GET', window.key)
  window.stored = stored
  if not stored or is_stale then return end
  local known, spent = string.match(stored, '^(%d+) (%d+)$')
  known, spent = tonumber(known), tonumber(spent)
  if known == window.start then
    window.spent = spent
  elseif known > now then -- the clock stepped back
    window.start, window.finish, window.spent = now, now + (window.finish - window.start), spent
    window.is_carried = true
  else
    local start, finish = locate(window, known)
    if not start or known == start or known + (finish - start) <= now then return end
    window.start, window.finish, window.spent = known, known + (finish - start), spent
  end
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
