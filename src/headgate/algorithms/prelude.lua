-- What the algorithms lean on.
local algorithms, is_stale = {}, false

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
