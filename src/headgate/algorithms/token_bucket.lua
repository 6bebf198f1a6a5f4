-- The token bucket as GCRA with an exact remainder: see token_bucket.py, whose steps these are.
-- Times are pairs: q whole microseconds and r parts of 1/rate microsecond.
-- Stored as "q" where r is 0 and nobody gave a place back, else as "q r rate [place_q place_r amount_q amount_r]...".
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

-- min(amount, place - now)
local function owed(vacancy, rate)
  local q, r = minus(vacancy.q, vacancy.r, now, 0, rate)
  if less(q, r, vacancy.amount_q, vacancy.amount_r) then return q, r end
  return vacancy.amount_q, vacancy.amount_r
end

-- The second half of `settle`: let vacancies fall back into the bucket.
local function fall_back(bucket)
  local rate, left = bucket.rate, {}
  local q, r = bucket.q, bucket.r
  for _, vacancy in ipairs(bucket.vacancies) do
    if less(now, 0, vacancy.q, vacancy.r) and less(0, 0, vacancy.amount_q, vacancy.amount_r) then
      left[#left + 1] = vacancy
    end
  end
  while #left > 0 and left[#left].q == q and left[#left].r == r do -- the last in the queue
    local owed_q, owed_r = owed(table.remove(left), rate)
    q, r = minus(q, r, owed_q, owed_r, rate)
  end
  local end_q, end_r = plus(now, 0, bucket.tolerance_q, bucket.tolerance_r, rate)
  if not less(end_q, end_r, q, r) then -- nobody is waiting
    for _, vacancy in ipairs(left) do
      local owed_q, owed_r = owed(vacancy, rate)
      q, r = minus(q, r, owed_q, owed_r, rate)
    end
    left = {}
  end
  bucket.q, bucket.r, bucket.vacancies = q, r, left
end

local function settle(bucket)
  local stored = redis.call('GET', bucket.key)
  local rate, vacancies = bucket.rate, {}
  bucket.stored, bucket.vacancies = stored, vacancies
  if not stored then
    bucket.q, bucket.r = now, 0
    return
  end
  local q, r = tonumber(stored), 0
  if not q then
    local numbers = {}
    for number in string.gmatch(stored, '%d+') do numbers[#numbers + 1] = tonumber(number) end
    q, r = numbers[1], numbers[2]
    local other = numbers[3] ~= rate -- other parts: round to whole microseconds, against the caller
    if other and r > 0 then q, r = q + 1, 0 end
    for i = 4, #numbers, 4 do
      local vacancy = {q = numbers[i], r = numbers[i + 1], amount_q = numbers[i + 2], amount_r = numbers[i + 3]}
      if other then vacancy.r, vacancy.amount_r = 0, 0 end
      vacancies[#vacancies + 1] = vacancy
    end
  end
  bucket.q, bucket.r = q, r
  if #vacancies > 0 then fall_back(bucket) end
end

local function arguments(key)
  return {
    key = key,
    increment_q = number(), increment_r = number(),
    tolerance_q = number(), tolerance_r = number(),
    rate = number(),
  }
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
    local q, r = minus(new_q, new_r, bucket.tolerance_q, bucket.tolerance_r, rate)
    wait = r > 0 and q + 1 or q
    for index, vacancy in ipairs(bucket.vacancies) do
      local turn_q, turn_r = minus(vacancy.q, vacancy.r, bucket.tolerance_q, bucket.tolerance_r, rate)
      local turn = math.max(0, turn_q - now + (turn_r > 0 and 1 or 0))
      local left_q, left_r = minus(vacancy.q, vacancy.r, now + turn, 0, rate)
      if turn < wait and not less(left_q, left_r, bucket.increment_q, bucket.increment_r)
        and not less(vacancy.amount_q, vacancy.amount_r, bucket.increment_q, bucket.increment_r) then
        wait, taken = turn, index
        break
      end
    end
  end
  bucket.wait, bucket.taken = wait, taken
  bucket.allowed = wait <= max_wait
  return bucket
end

local function write(bucket)
  local q, r = bucket.q, bucket.r
  if not less(now, 0, q, r) then
    if bucket.stored then redis.call('DEL', bucket.key) end
    return
  end
  local value = q
  if r > 0 or #bucket.vacancies > 0 then
    local numbers = {integer(q), integer(r), integer(bucket.rate)}
    for _, vacancy in ipairs(bucket.vacancies) do
      numbers[#numbers + 1] = integer(vacancy.q)
      numbers[#numbers + 1] = integer(vacancy.r)
      numbers[#numbers + 1] = integer(vacancy.amount_q)
      numbers[#numbers + 1] = integer(vacancy.amount_r)
    end
    value = table.concat(numbers, ' ')
  end
  redis.call('SET', bucket.key, value, 'PXAT', expires_at_ms(r > 0 and q + 1 or q))
end

function token_bucket.spend(bucket)
  local rate = bucket.rate
  if bucket.taken > 0 then
    local vacancy = bucket.vacancies[bucket.taken]
    bucket.place_q, bucket.place_r = vacancy.q, vacancy.r
    if less(bucket.increment_q, bucket.increment_r, vacancy.amount_q, vacancy.amount_r) then
      vacancy.q, vacancy.r = minus(vacancy.q, vacancy.r, bucket.increment_q, bucket.increment_r, rate)
      vacancy.amount_q, vacancy.amount_r =
        minus(vacancy.amount_q, vacancy.amount_r, bucket.increment_q, bucket.increment_r, rate)
    else
      table.remove(bucket.vacancies, bucket.taken)
    end
  else
    if less(bucket.q, bucket.r, now, 0) then bucket.q, bucket.r = now, 0 end
    bucket.q, bucket.r = plus(bucket.q, bucket.r, bucket.increment_q, bucket.increment_r, rate)
  end
  write(bucket)
end

function token_bucket.give_back(key)
  local bucket = arguments(key)
  local place_q, place_r = number(), number()
  settle(bucket)
  if less(now, 0, place_q, place_r) and less(now, 0, bucket.q, bucket.r)
    and less(0, 0, bucket.increment_q, bucket.increment_r) then
    if less(bucket.q, bucket.r, place_q, place_r) then place_q, place_r = bucket.q, bucket.r end
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
        if less(vacancies[i].amount_q, vacancies[i].amount_r, vacancies[smallest].amount_q, vacancies[smallest].amount_r) then
          smallest = i
        end
      end
      table.remove(vacancies, smallest)
    end
    fall_back(bucket)
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
  if bucket.place_q then
    answer(-bucket.wait - 1)
    answer(bucket.place_q)
    answer(bucket.place_r)
  else
    answer(bucket.wait)
  end
end

algorithms.tb = token_bucket
