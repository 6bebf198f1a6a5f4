-- The token bucket as GCRA with an exact remainder: see token_bucket.py, whose steps these are. token_bucket_notes.lua, in
-- the same block before this, has the sums of times, which are pairs, and what is needed only where there are notes.
-- Stored as "q" where r is 0, or "q r rate"; with notes, as "q r rate stamp credited_q credited_r kept_until waiting_until
-- number_of_vacancies" and the spans: the vacancies, and then what was returned.
local token_bucket = {}

local MAX_DEBT_US = 2251799813685247

local function arguments(key)
  return {
    key = key,
    increment_q = number(), increment_r = number(),
    tolerance_q = number(), tolerance_r = number(),
    rate = number(),
    q = now, r = 0, wait = 0,
  }
end

local function settle(bucket)
  local stored = redis.call('GET', bucket.key)
  bucket.stored = stored
  if not stored then return end
  local q, r, rate = tonumber(stored), 0, bucket.rate
  if not q then
    local numbers = {}
    for digits in string.gmatch(stored, '%d+') do numbers[#numbers + 1] = tonumber(digits) end
    q, r = numbers[1], numbers[2]
    local is_other = numbers[3] ~= rate -- other parts: round to whole microseconds, against the caller
    if is_other then q, r = ceil(q, r), 0 end
    if #numbers > 3 then
      bucket.q, bucket.r = q, r
      return with_notes().settle(bucket, numbers, is_other)
    end
  end
  bucket.q, bucket.r = q, r
  local ahead_q, ahead_r = minus(q - now, r, bucket.tolerance_q, bucket.tolerance_r, rate)
  if less(0, 0, ahead_q, ahead_r) then with_notes().cut(bucket, ahead_q, ahead_r) end
end

local function debt_of(bucket)
  local q = bucket.q - now
  if q < 0 then return 0, 0 end
  return q, bucket.r
end

function token_bucket.judge(key, max_wait)
  local bucket = arguments(key)
  local rate = bucket.rate
  settle(bucket)
  local debt_q, debt_r = debt_of(bucket)
  local new_q, new_r = plus(debt_q, debt_r, bucket.increment_q, bucket.increment_r, rate)
  if less(bucket.tolerance_q, bucket.tolerance_r, new_q, new_r) then
    bucket.wait = ceil(minus(new_q, new_r, bucket.tolerance_q, bucket.tolerance_r, rate))
    if bucket.notes then with_notes().find_vacancy(bucket) end
  end
  bucket.allowed = bucket.wait <= max_wait
  return bucket
end

local function write(bucket)
  local q, r, kept_until, value = bucket.q, bucket.r, 0, nil
  if bucket.notes then kept_until, value = with_notes().written(bucket) end
  if kept_until <= now and not less(now, 0, q, r) then
    if bucket.stored then redis.call('DEL', bucket.key) end
    return
  end
  value = value or (r > 0 and string.format('%.0f %.0f %.0f', q, r, bucket.rate) or q)
  redis.call('SET', bucket.key, value, 'PXAT', expires_at_ms(math.max(ceil(q, r), kept_until)))
end

function token_bucket.spend(bucket)
  if bucket.taken then
    with_notes().take_vacancy(bucket)
  else
    local q, r, turn = bucket.q, bucket.r, now + bucket.wait -- a turn is a whole microsecond, and counts as such
    if less(q, r, turn, 0) then q, r = turn, 0 end
    bucket.q, bucket.r = plus(q, r, bucket.increment_q, bucket.increment_r, bucket.rate)
  end
  if bucket.wait > 0 then
    local notes = with_notes().begin(bucket)
    notes.waiting_until = math.max(notes.waiting_until, now + bucket.wait)
  end
  write(bucket)
end

-- Nothing is taken. If the clock has stepped back, that is written.
function token_bucket.keep(bucket, action)
  if action == 'spend' and bucket.is_mended then write(bucket) end
  if bucket.wait > 0 and bucket.notes then with_notes().keep(bucket) end
end

function token_bucket.give_back(key)
  local bucket = arguments(key)
  local place_q, place_r, before_q, before_r, only_as_last = number(), number(), number(), number(), number() == 1
  settle(bucket)
  with_notes().give_back(bucket, place_q, place_r, before_q, before_r, only_as_last)
  write(bucket)
  return bucket
end

function token_bucket.take(key)
  local bucket = arguments(key)
  settle(bucket)
  local q, r, most = bucket.q, bucket.r, now + MAX_DEBT_US
  if less(q, r, now, 0) then q, r = now, 0 end
  q, r = plus(q, r, bucket.increment_q, bucket.increment_r, bucket.rate)
  if less(most, 0, q, r) then q, r = most, 0 end
  if less(bucket.q, bucket.r, q, r) then bucket.q, bucket.r = q, r end
  with_notes().begin(bucket) -- it may owe more than its tolerance
  write(bucket)
  return bucket
end

function token_bucket.report(bucket)
  local debt_q, debt_r = debt_of(bucket)
  answer(debt_q)
  answer(debt_r)
  local notes = bucket.notes
  if bucket.place_q then
    answer(-bucket.wait - 1)
    answer(bucket.place_q)
    answer(bucket.place_r)
    answer(bucket.before_q)
    answer(bucket.before_r)
  elseif notes and (notes.credited_q > 0 or notes.credited_r > 0) then
    answer(-bucket.wait - 1)
    answer(now + debt_q)
    answer(debt_r)
    answer(notes.credited_q)
    answer(notes.credited_r)
  else
    answer(bucket.wait)
  end
end

algorithms.tb = token_bucket
