-- What every algorithm's script leans on. The files are joined in this order: prelude, algorithms, decide.
local algorithms = {}
local answers, at, key_at, is_stale = {}, 1, 0, false

-- Microseconds since the epoch. Exact: below 2^53 until the year 2255.
local clock = redis.call('TIME')
local server_now = clock[1] * 1000000 + clock[2]
local now = tonumber(ARGV[1]) or server_now

local function text()
  at = at + 1
  return ARGV[at]
end

local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

local function answer(integer)
  answers[#answers + 1] = integer
end

-- tostring() would keep 14 digits.
local function integer(value)
  return string.format('%.0f', value)
end

-- The first whole millisecond of the server's clock after an instant of ours: never earlier than the debt.
local function expires_at_ms(instant)
  local there = instant + (server_now - now)
  return (there - there % 1000) / 1000 + 1
end
