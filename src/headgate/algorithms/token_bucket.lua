-- The token bucket as GCRA with an exact remainder: see token_bucket.py, whose steps these are.
-- Times are pairs: q whole microseconds and r parts of 1/rate microsecond. A span is {begin_q, begin_r, end_q, end_r}.
-- Stored as "q" where r is 0, or "q r rate"; with notes, as "q r rate stamp credited_q credited_r kept_until waiting_until
-- number_of_vacancies" and the spans: the vacancies, and then what was returned.
local token_bucket = {}

local MAX_DEBT_US = 2251799813685247
local MAX_CREDIT_US = 1125899906842623
local MAX_SPANS = 64

local function plus(aq, ar, bq, br, rate)
  local q, r = aq + bq, ar + br
  if r >= rate then return q + 1, r - rate end
  return q, r
end

local function minus(aq, ar, bq, br, rate)
  local q, r = aq - bq, ar - br
  if r < 0 then return q - 1, r + rate end
  return q, r
end

local function less(aq, ar, bq, br)
  return aq < bq or (aq == bq and ar < br)
end

local function later(aq, ar, bq, br)
  if less(aq, ar, bq, br) then return bq, br end
  return aq, ar
end

local function earlier(aq, ar, bq, br)
  if less(bq, br, aq, ar) then return bq, br end
  return aq, ar
end

local function ceil(q, r)
  return r > 0 and q + 1 or q
end

local function length(span, rate)
  return minus(span[3], span[4], span[1], span[2], rate)
end

local function arguments(key)
  return {
    key = key,
    increment_q = number(), increment_r = number(),
    tolerance_q = number(), tolerance_r = number(),
    rate = number(),
    q = now, r = 0, wait = 0,
    credited_q = 0, credited_r = 0, kept_until = 0, waiting_until = 0, vacancies = {}, returned = {},
  }
end

-- Rounded to whole microseconds, against the caller.
local function within(spans)
  local rounded = {}
  for _, span in ipairs(spans) do
    local begin = ceil(span[1], span[2])
    if begin < span[3] then rounded[#rounded + 1] = {begin, 0, span[3], 0} end
  end
  return rounded
end

local function joined(spans, begin_q, begin_r, end_q, end_r)
  local before, after = {}, {}
  for _, span in ipairs(spans) do
    if less(span[3], span[4], begin_q, begin_r) then
      before[#before + 1] = span
    elseif less(end_q, end_r, span[1], span[2]) then
      after[#after + 1] = span
    else
      begin_q, begin_r = earlier(begin_q, begin_r, span[1], span[2])
      end_q, end_r = later(end_q, end_r, span[3], span[4])
    end
  end
  before[#before + 1] = {begin_q, begin_r, end_q, end_r}
  for _, span in ipairs(after) do before[#before + 1] = span end
  return before
end

-- The place of a returned stretch that has so much of the others behind it.
local function place_of(bucket, span, behind_q, behind_r)
  local q, r = minus(span[3], span[4], bucket.credited_q, bucket.credited_r, bucket.rate)
  return plus(q, r, behind_q, behind_r, bucket.rate)
end

local function nominal(bucket, place_q, place_r)
  local rate, behind_q, behind_r = bucket.rate, 0, 0
  for i = #bucket.returned, 1, -1 do
    local span = bucket.returned[i]
    local q, r = place_of(bucket, span, behind_q, behind_r)
    if less(q, r, place_q, place_r) then break end
    q, r = length(span, rate)
    behind_q, behind_r = plus(behind_q, behind_r, q, r, rate)
  end
  local q, r = plus(place_q, place_r, bucket.credited_q, bucket.credited_r, rate)
  return minus(q, r, behind_q, behind_r, rate)
end

local function actual(bucket, nominal_q, nominal_r)
  local rate = bucket.rate
  local q, r = minus(nominal_q, nominal_r, bucket.credited_q, bucket.credited_r, rate)
  for _, span in ipairs(bucket.returned) do
    if less(nominal_q, nominal_r, span[3], span[4]) then
      local begin_q, begin_r = later(span[1], span[2], nominal_q, nominal_r)
      local length_q, length_r = minus(span[3], span[4], begin_q, begin_r, rate)
      q, r = plus(q, r, length_q, length_r, rate)
    end
  end
  return q, r
end

local function credit(bucket, q, r)
  q, r = plus(bucket.credited_q, bucket.credited_r, q, r, bucket.rate)
  bucket.credited_q, bucket.credited_r = earlier(q, r, MAX_CREDIT_US, 0)
  bucket.kept_until = math.max(bucket.kept_until, ceil(bucket.q, bucket.r))
end

local function move_up(bucket, begin_q, begin_r, end_q, end_r)
  local rate = bucket.rate
  local from_q, from_r = nominal(bucket, begin_q, begin_r)
  local returned = joined(bucket.returned, from_q, from_r, nominal(bucket, end_q, end_r))
  if #returned > MAX_SPANS then table.remove(returned, 1) end
  bucket.returned = returned
  local q, r = minus(end_q, end_r, begin_q, begin_r, rate)
  credit(bucket, q, r)
  bucket.q, bucket.r = minus(bucket.q, bucket.r, q, r, rate)
end

local function close_up(bucket, at)
  local vacancies = bucket.vacancies
  for i = #vacancies, 1, -1 do
    local span = vacancies[i]
    if less(at, 0, span[3], span[4]) then
      local begin_q, begin_r = later(span[1], span[2], at, 0)
      move_up(bucket, begin_q, begin_r, span[3], span[4])
    end
  end
  bucket.vacancies, bucket.waiting_until = {}, 0
end

local function set_back(bucket, q, r)
  local rate = bucket.rate
  credit(bucket, q, r)
  bucket.q, bucket.r = minus(bucket.q, bucket.r, q, r, rate)
  bucket.waiting_until = math.max(0, bucket.waiting_until - q)
  for i, span in ipairs(bucket.vacancies) do
    local begin_q, begin_r = minus(span[1], span[2], q, r, rate)
    bucket.vacancies[i] = {begin_q, begin_r, minus(span[3], span[4], q, r, rate)}
  end
end

local function pass_time(bucket)
  local rate = bucket.rate
  if bucket.waiting_until <= now then close_up(bucket, bucket.waiting_until) end
  if bucket.kept_until <= now and not less(now, 0, bucket.q, bucket.r) then
    bucket.credited_q, bucket.credited_r, bucket.kept_until, bucket.waiting_until = 0, 0, 0, 0
    bucket.vacancies, bucket.returned = {}, {}
    return
  end
  local returned, behind_q, behind_r, first = bucket.returned, 0, 0, 1
  for i = #returned, 1, -1 do
    local q, r = place_of(bucket, returned[i], behind_q, behind_r)
    if not less(now, 0, q, r) then -- where it was is past
      first = i + 1
      break
    end
    q, r = length(returned[i], rate)
    behind_q, behind_r = plus(behind_q, behind_r, q, r, rate)
  end
  bucket.returned = {unpack(returned, first)}
  local vacancies = {}
  for _, span in ipairs(bucket.vacancies) do
    if less(now, 0, span[3], span[4]) then
      local begin_q, begin_r = later(span[1], span[2], now, 0)
      vacancies[#vacancies + 1] = {begin_q, begin_r, span[3], span[4]}
    end
  end
  bucket.vacancies = vacancies
  bucket.q, bucket.r = later(bucket.q, bucket.r, now, 0)
end

local function set_back_by_tolerance(bucket)
  local q, r = minus(bucket.q, bucket.r, now, 0, bucket.rate)
  if less(bucket.tolerance_q, bucket.tolerance_r, q, r) then
    bucket.is_mended = true
    set_back(bucket, minus(q, r, bucket.tolerance_q, bucket.tolerance_r, bucket.rate))
    pass_time(bucket)
  end
end

local function settle(bucket)
  local stored = redis.call('GET', bucket.key)
  bucket.stored = stored
  if not stored then return end
  local q = tonumber(stored)
  if q then
    bucket.q = q
    return set_back_by_tolerance(bucket)
  end
  local numbers = {}
  for digits in string.gmatch(stored, '%d+') do numbers[#numbers + 1] = tonumber(digits) end
  local is_other = numbers[3] ~= bucket.rate -- other parts: round to whole microseconds, against the caller
  bucket.q, bucket.r = numbers[1], numbers[2]
  if is_other then bucket.q, bucket.r = ceil(bucket.q, bucket.r), 0 end
  if #numbers == 3 then return set_back_by_tolerance(bucket) end
  bucket.credited_q, bucket.credited_r = numbers[5], numbers[6]
  bucket.kept_until, bucket.waiting_until = numbers[7], numbers[8]
  local spans = {}
  for i = 10, #numbers, 4 do spans[#spans + 1] = {numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3]} end
  local count = numbers[9]
  bucket.vacancies, bucket.returned = {unpack(spans, 1, count)}, {unpack(spans, count + 1)}
  if is_other then
    bucket.credited_q, bucket.credited_r = ceil(bucket.credited_q, bucket.credited_r), 0
    bucket.vacancies, bucket.returned = within(bucket.vacancies), within(bucket.returned)
  end
  if numbers[4] > now then
    bucket.is_mended = true
    set_back(bucket, numbers[4] - now, 0)
  end
  pass_time(bucket)
end

local function debt_of(bucket)
  local q, r = minus(bucket.q, bucket.r, now, 0, bucket.rate)
  if q < 0 then return 0, 0 end
  return q, r
end

-- When a hit may go that takes a vacancy with this begin, and where its stretch then ends.
local function turn_of(bucket, begin_q, begin_r)
  local rate = bucket.rate
  local q, r = plus(begin_q, begin_r, bucket.increment_q, bucket.increment_r, rate)
  local turn = math.max(now, ceil(minus(q, r, bucket.tolerance_q, bucket.tolerance_r, rate)))
  q, r = later(begin_q, begin_r, turn, 0) -- a turn is a whole microsecond, and counts as such
  return turn, plus(q, r, bucket.increment_q, bucket.increment_r, rate)
end

function token_bucket.judge(key, max_wait)
  local bucket = arguments(key)
  local rate = bucket.rate
  settle(bucket)
  local debt_q, debt_r = debt_of(bucket)
  local new_q, new_r = plus(debt_q, debt_r, bucket.increment_q, bucket.increment_r, rate)
  if less(bucket.tolerance_q, bucket.tolerance_r, new_q, new_r) then
    bucket.wait = ceil(minus(new_q, new_r, bucket.tolerance_q, bucket.tolerance_r, rate))
    for index, span in ipairs(bucket.vacancies) do
      local turn, place_q, place_r = turn_of(bucket, span[1], span[2])
      if not less(span[3], span[4], place_q, place_r) then
        if turn - now <= bucket.wait then bucket.wait, bucket.taken = turn - now, index end
        break
      end
    end
  end
  bucket.allowed = bucket.wait <= max_wait
  return bucket
end

local function write(bucket)
  local q, r, credited_q, credited_r = bucket.q, bucket.r, bucket.credited_q, bucket.credited_r
  local kept_until = (credited_q > 0 or credited_r > 0) and bucket.kept_until or 0
  if kept_until <= now and not less(now, 0, q, r) then
    if bucket.stored then redis.call('DEL', bucket.key) end
    return
  end
  local value = q
  local is_plain = credited_q == 0 and credited_r == 0 and bucket.waiting_until == 0
  if is_plain then
    local most_q, most_r = plus(now, 0, bucket.tolerance_q, bucket.tolerance_r, bucket.rate)
    is_plain = not less(most_q, most_r, q, r)
  end
  if not is_plain then
    local numbers = {q, r, bucket.rate, now, credited_q, credited_r, kept_until, bucket.waiting_until, #bucket.vacancies}
    for _, spans in ipairs({bucket.vacancies, bucket.returned}) do
      for _, span in ipairs(spans) do
        for i = 1, 4 do numbers[#numbers + 1] = span[i] end
      end
    end
    for i = 1, #numbers do numbers[i] = integer(numbers[i]) end
    value = table.concat(numbers, ' ')
  elseif r > 0 then
    value = string.format('%.0f %.0f %.0f', q, r, bucket.rate)
  end
  redis.call('SET', bucket.key, value, 'PXAT', expires_at_ms(math.max(ceil(q, r), kept_until)))
end

function token_bucket.spend(bucket)
  local rate = bucket.rate
  if bucket.taken then
    local span = bucket.vacancies[bucket.taken]
    local _, place_q, place_r = turn_of(bucket, span[1], span[2])
    if less(place_q, place_r, span[3], span[4]) then
      bucket.vacancies[bucket.taken] = {place_q, place_r, span[3], span[4]}
    else
      table.remove(bucket.vacancies, bucket.taken)
    end
    local q, r = nominal(bucket, place_q, place_r)
    bucket.place_q, bucket.place_r = place_q, place_r
    bucket.before_q, bucket.before_r = minus(q, r, place_q, place_r, rate)
  else
    local q, r = later(bucket.q, bucket.r, now + bucket.wait, 0) -- a turn is a whole microsecond, and counts as such
    bucket.q, bucket.r = plus(q, r, bucket.increment_q, bucket.increment_r, rate)
  end
  if bucket.wait > 0 then bucket.waiting_until = math.max(bucket.waiting_until, now + bucket.wait) end
  write(bucket)
end

-- Nothing is taken. Of the facts, `wait` is that of who asks again; and if the clock has stepped back, that is written.
function token_bucket.keep(bucket, action)
  if action == 'spend' and bucket.is_mended then write(bucket) end
  if bucket.wait == 0 or #bucket.vacancies == 0 then return end
  local rate, waiting_until, q, r = bucket.rate, bucket.waiting_until, bucket.q, bucket.r
  for _, span in ipairs(bucket.vacancies) do -- they may be closed up by then
    local begin_q, begin_r = later(span[1], span[2], waiting_until, 0)
    if less(begin_q, begin_r, span[3], span[4]) then
      local length_q, length_r = minus(span[3], span[4], begin_q, begin_r, rate)
      q, r = minus(q, r, length_q, length_r, rate)
    end
  end
  q, r = plus(q, r, bucket.increment_q, bucket.increment_r, rate)
  local free = math.max(waiting_until, ceil(minus(q, r, bucket.tolerance_q, bucket.tolerance_r, rate)))
  bucket.wait = math.min(bucket.wait, free - now)
end

local function leave(bucket, owed_q, owed_r)
  local rate, vacancies, returned = bucket.rate, bucket.vacancies, bucket.returned
  bucket.q, bucket.r = minus(bucket.q, bucket.r, owed_q, owed_r, rate)
  while true do -- and so does what is free or missing before it
    local vacancy, missing = vacancies[#vacancies], returned[#returned]
    local last_q, last_r = plus(bucket.q, bucket.r, bucket.credited_q, bucket.credited_r, rate)
    if vacancy and vacancy[3] == bucket.q and vacancy[4] == bucket.r then
      bucket.q, bucket.r = vacancy[1], vacancy[2]
      table.remove(vacancies)
    elseif missing and missing[3] == last_q and missing[4] == last_r then
      local q, r = length(missing, rate)
      bucket.credited_q, bucket.credited_r = minus(bucket.credited_q, bucket.credited_r, q, r, rate)
      table.remove(returned)
    else
      return
    end
  end
end

local function add_vacancy(bucket, begin_q, begin_r, end_q, end_r)
  local vacancies = joined(bucket.vacancies, begin_q, begin_r, end_q, end_r)
  if #vacancies > MAX_SPANS then
    local smallest, smallest_q, smallest_r
    for i, span in ipairs(vacancies) do
      local q, r = length(span, bucket.rate)
      if not smallest or less(q, r, smallest_q, smallest_r) then smallest, smallest_q, smallest_r = i, q, r end
    end
    table.remove(vacancies, smallest)
  end
  bucket.vacancies = vacancies
end

function token_bucket.give_back(key)
  local bucket = arguments(key)
  local place_q, place_r, before_q, before_r, only_as_last = number(), number(), number(), number(), number() == 1
  local rate = bucket.rate
  settle(bucket)
  local nominal_q, nominal_r = plus(place_q, place_r, before_q, before_r, rate)
  local end_q, end_r = earlier(place_q, place_r, actual(bucket, nominal_q, nominal_r))
  local owed_q, owed_r = minus(end_q, end_r, now, 0, rate)
  owed_q, owed_r = earlier(owed_q, owed_r, bucket.increment_q, bucket.increment_r)
  local begin_q, begin_r = minus(end_q, end_r, owed_q, owed_r, rate)
  local last_q, last_r = plus(bucket.q, bucket.r, bucket.credited_q, bucket.credited_r, rate)
  local is_owed = less(0, 0, owed_q, owed_r) and bucket.credited_q < MAX_CREDIT_US
  if not is_owed or less(last_q, last_r, nominal_q, nominal_r) then
    -- nothing comes back
  elseif nominal_q == last_q and nominal_r == last_r then
    leave(bucket, owed_q, owed_r)
    if not only_as_last and bucket.waiting_until > 0 then -- no later turn was told to those who are left
      local turn = ceil(minus(bucket.q, bucket.r, bucket.tolerance_q, bucket.tolerance_r, rate))
      bucket.waiting_until = math.min(bucket.waiting_until, turn)
      if turn <= now then close_up(bucket, now) end
    end
  elseif bucket.waiting_until > 0 then
    local turn_q, turn_r = minus(end_q, end_r, bucket.tolerance_q, bucket.tolerance_r, rate)
    if not only_as_last then
      add_vacancy(bucket, begin_q, begin_r, end_q, end_r)
    elseif less(now, 0, turn_q, turn_r) then -- its turn has not come; until it is past, nothing is closed up
      add_vacancy(bucket, begin_q, begin_r, end_q, end_r)
      bucket.waiting_until = math.max(bucket.waiting_until, ceil(end_q, end_r))
    end
  elseif not only_as_last then
    move_up(bucket, begin_q, begin_r, end_q, end_r)
  end
  write(bucket)
  return bucket
end

function token_bucket.take(key)
  local bucket = arguments(key)
  settle(bucket)
  local q, r = later(bucket.q, bucket.r, now, 0)
  q, r = plus(q, r, bucket.increment_q, bucket.increment_r, bucket.rate)
  q, r = earlier(q, r, now + MAX_DEBT_US, 0)
  bucket.q, bucket.r = later(bucket.q, bucket.r, q, r)
  write(bucket)
  return bucket
end

function token_bucket.report(bucket)
  local debt_q, debt_r = debt_of(bucket)
  answer(debt_q)
  answer(debt_r)
  local has_credit = bucket.credited_q > 0 or bucket.credited_r > 0
  if not bucket.place_q and not has_credit then
    answer(bucket.wait)
    return
  end
  answer(-bucket.wait - 1)
  if bucket.place_q then
    answer(bucket.place_q)
    answer(bucket.place_r)
    answer(bucket.before_q)
    answer(bucket.before_r)
  else
    answer(now + debt_q)
    answer(debt_r)
    answer(bucket.credited_q)
    answer(bucket.credited_r)
  end
end

algorithms.tb = token_bucket
