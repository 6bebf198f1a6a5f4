-- What the algorithms lean on.
local now = tonumber(words[1]) or server_now -- the caller's clock, in tests
local answers, at, key_at = {now}, 1, 0
local algorithms, is_stale = {}, false

local function text()
  at = at + 1
  return words[at]
end

local function number()
  at = at + 1
  return tonumber(words[at])
end

local function answer(integer)
  answers[#answers + 1] = integer
end

-- tostring() would keep 14 digits.
local function integer(value)
  return string.format('%.0f', value)
end

-- The first whole millisecond of the server's clock after an instant of ours: never earlier than the debt. By a test's
-- clock, which may stand still for a while, an hour later than that.
local more = words[1] == '' and 0 or 3600000000

local function expires_at_ms(instant)
  local there = instant + (server_now - now) + more
  return (there - there % 1000) / 1000 + 1
end
