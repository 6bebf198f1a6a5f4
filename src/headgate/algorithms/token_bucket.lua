-- The token bucket as GCRA with an exact remainder: see token_bucket.py, whose steps these are.
-- Times are pairs: q whole microseconds and r parts of 1/rate microsecond.
-- Stored as "q" where r is 0, or "q r rate"; where something was given back, as
-- "q r rate credited until [place_q place_r amount_q amount_r]...".
local token_bucket = {}

local MAX_DEBT_US = 2251799813685247
local MAX_VACANCIES = 16

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

local function ceil(q, r)
  return r > 0 and q + 1 or q
end

local function arguments(key)
  return {
    key = key,
    increment_q = number(), increment_r = number(),
    tolerance_q = number(), tolerance_r = number(),
    rate = number(),
    q = now, r = 0, vacancies = {}, credited = 0, limit_of_credit = 0,
  }
end

-- Microseconds from now until the turn of a place: the first whole one at or after place - tolerance.
local function turn_of(bucket, place_q, place_r)
  local q, r = minus(place_q, place_r, bucket.tolerance_q, bucket.tolerance_r, bucket.rate)
  return ceil(q, r) - now
end

local function settle(bucket)
  local stored = redis.call('GET', bucket.key)
  bucket.stored = stored
  if not stored then return end
  local q = tonumber(stored)
  if q then
    bucket.q = q
    return
  end
  local numbers = {}
  for digits in string.gmatch(stored, '%d+') do numbers[#numbers + 1] = tonumber(digits) end
  local is_other = numbers[3] ~= bucket.rate -- other parts: round to whole microseconds, against the caller
  bucket.q, bucket.r = numbers[1], numbers[2]
  if is_other then bucket.q, bucket.r = ceil(bucket.q, bucket.r), 0 end
  bucket.credited, bucket.limit_of_credit = numbers[4] or 0, numbers[5] or 0
  if bucket.limit_of_credit <= now and not less(now, 0, bucket.q, bucket.r) then
    bucket.credited, bucket.limit_of_credit = 0, 0
  end
  for i = 6, #numbers, 4 do
    local vacancy = {q = numbers[i], r = numbers[i + 1], amount_q = numbers[i + 2], amount_r = numbers[i + 3]}
    if is_other then
      vacancy.q, vacancy.r, vacancy.amount_r = ceil(vacancy.q, vacancy.r), 0, 0
    end
    if turn_of(bucket, vacancy.q, vacancy.r) >= 0 then bucket.vacancies[#bucket.vacancies + 1] = vacancy end
  end
end

local function debt_of(bucket)
  local q, r = minus(bucket.q, bucket.r, now, 0, bucket.rate)
  if q < 0 then return 0, 0 end
  return q, r
end

function token_bucket.judge(key, max_wait)
  local bucket = arguments(key)
  local rate = bucket.rate
  settle(bucket)
  local debt_q, debt_r = debt_of(bucket)
  local new_q, new_r = plus(debt_q, debt_r, bucket.increment_q, bucket.increment_r, rate)
  local wait, taken = 0, 0
  if less(bucket.tolerance_q, bucket.tolerance_r, new_q, new_r) then
    wait = ceil(minus(new_q, new_r, bucket.tolerance_q, bucket.tolerance_r, rate))
  end
  for index, vacancy in ipairs(bucket.vacancies) do
    local turn = turn_of(bucket, vacancy.q, vacancy.r)
    if turn < wait and not less(vacancy.amount_q, vacancy.amount_r, bucket.increment_q, bucket.increment_r) then
      wait, taken = turn, index
      break
    end
  end
  bucket.wait, bucket.taken = wait, taken
  bucket.allowed = wait <= max_wait
  return bucket
end

local function write(bucket)
  local q, r, vacancies = bucket.q, bucket.r, bucket.vacancies
  if not less(now, 0, q, r) and bucket.limit_of_credit <= now then
    if bucket.stored then redis.call('DEL', bucket.key) end
    return
  end
  local value = q
  if bucket.limit_of_credit > 0 or #vacancies > 0 then
    local numbers = {
      integer(q), integer(r), integer(bucket.rate), integer(bucket.credited), integer(bucket.limit_of_credit),
    }
    for _, vacancy in ipairs(vacancies) do
      numbers[#numbers + 1] = integer(vacancy.q)
      numbers[#numbers + 1] = integer(vacancy.r)
      numbers[#numbers + 1] = integer(vacancy.amount_q)
      numbers[#numbers + 1] = integer(vacancy.amount_r)
    end
    value = table.concat(numbers, ' ')
  elseif r > 0 then
    value = string.format('%.0f %.0f %.0f', q, r, bucket.rate)
  end
  redis.call('SET', bucket.key, value, 'PXAT', expires_at_ms(math.max(ceil(q, r), bucket.limit_of_credit)))
end

function token_bucket.spend(bucket)
  if bucket.taken > 0 then
    local vacancy = table.remove(bucket.vacancies, bucket.taken)
    bucket.place_q, bucket.place_r = vacancy.q, vacancy.r
  else
    local turn = now + bucket.wait -- a turn is a whole microsecond, and counts as such
    if less(bucket.q, bucket.r, turn, 0) then bucket.q, bucket.r = turn, 0 end
    bucket.q, bucket.r = plus(bucket.q, bucket.r, bucket.increment_q, bucket.increment_r, bucket.rate)
  end
  write(bucket)
end

local function add_vacancy(bucket, place_q, place_r)
  local vacancies = bucket.vacancies
  local index = 1
  while index <= #vacancies and less(vacancies[index].q, vacancies[index].r, place_q, place_r) do index = index + 1 end
  local vacancy = vacancies[index]
  if vacancy and vacancy.q == place_q and vacancy.r == place_r then
    vacancy.amount_q, vacancy.amount_r =
      plus(vacancy.amount_q, vacancy.amount_r, bucket.increment_q, bucket.increment_r, bucket.rate)
  else
    table.insert(vacancies, index,
      {q = place_q, r = place_r, amount_q = bucket.increment_q, amount_r = bucket.increment_r})
  end
  if #vacancies > MAX_VACANCIES then
    local smallest = 1
    for i = 2, #vacancies do
      local one, other = vacancies[i], vacancies[smallest]
      if less(one.amount_q, one.amount_r, other.amount_q, other.amount_r) then smallest = i end
    end
    table.remove(vacancies, smallest)
  end
end

function token_bucket.give_back(key)
  local bucket = arguments(key)
  local place_q, place_r, credited_before, only_as_last = number(), number(), number(), number()
  local rate = bucket.rate
  settle(bucket)
  local owed_q, owed_r = minus(place_q, place_r, now + math.max(0, bucket.credited - credited_before), 0, rate)
  if less(bucket.increment_q, bucket.increment_r, owed_q, owed_r) then
    owed_q, owed_r = bucket.increment_q, bucket.increment_r
  end
  local is_owed = less(0, 0, owed_q, owed_r)
  local end_q, end_r = plus(now, 0, bucket.tolerance_q, bucket.tolerance_r, rate)
  if place_q == bucket.q and place_r == bucket.r and bucket.credited == credited_before then -- the last
    if is_owed then bucket.q, bucket.r = minus(bucket.q, bucket.r, owed_q, owed_r, rate) end
    local left = bucket.vacancies
    while #left > 0 and left[#left].q == bucket.q and left[#left].r == bucket.r do -- and now those before it
      local vacancy = table.remove(left)
      bucket.q, bucket.r = minus(bucket.q, bucket.r, vacancy.amount_q, vacancy.amount_r, rate)
    end
  elseif less(end_q, end_r, place_q, place_r) then -- its turn has not come
    add_vacancy(bucket, place_q, place_r)
  elseif only_as_last == 0 and not less(end_q, end_r, bucket.q, bucket.r) and is_owed then -- nobody is waiting
    bucket.limit_of_credit = math.max(bucket.limit_of_credit, ceil(bucket.q, bucket.r))
    bucket.credited = bucket.credited + ceil(owed_q, owed_r)
    bucket.q, bucket.r = minus(bucket.q, bucket.r, owed_q, owed_r, rate)
  end
  write(bucket)
  bucket.wait = 0
  return bucket
end

function token_bucket.take(key)
  local bucket = arguments(key)
  settle(bucket)
  if less(bucket.q, bucket.r, now, 0) then bucket.q, bucket.r = now, 0 end
  bucket.q, bucket.r = plus(bucket.q, bucket.r, bucket.increment_q, bucket.increment_r, bucket.rate)
  if less(now + MAX_DEBT_US, 0, bucket.q, bucket.r) then bucket.q, bucket.r = now + MAX_DEBT_US, 0 end
  write(bucket)
  bucket.wait = 0
  return bucket
end

function token_bucket.report(bucket)
  local debt_q, debt_r = debt_of(bucket)
  answer(debt_q)
  answer(debt_r)
  if bucket.place_q or bucket.credited > 0 then
    answer(-bucket.wait - 1)
    if bucket.place_q then
      answer(bucket.place_q)
      answer(bucket.place_r)
    else
      answer(now + debt_q)
      answer(debt_r)
    end
    answer(bucket.credited)
  else
    answer(bucket.wait)
  end
end

algorithms.tb = token_bucket
