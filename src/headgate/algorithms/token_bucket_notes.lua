-- The notes of a token bucket: see token_bucket_notes.py, whose steps these are.
-- Times are pairs: q whole microseconds and r parts of 1/rate microsecond. A span is {begin_q, begin_r, end_q, end_r}.
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

local function ceil(q, r)
  return r > 0 and q + 1 or q
end

-- What is needed only where there are notes: making all these functions takes a tenth of the time of a script.
local noted
local function with_notes()
  if noted then return noted end
  noted = {}

  local function later(aq, ar, bq, br)
    if less(aq, ar, bq, br) then return bq, br end
    return aq, ar
  end

  local function earlier(aq, ar, bq, br)
    if less(bq, br, aq, ar) then return bq, br end
    return aq, ar
  end

  local function length(span, rate)
    return minus(span[3], span[4], span[1], span[2], rate)
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
    local q, r = minus(span[3], span[4], bucket.notes.credited_q, bucket.notes.credited_r, bucket.rate)
    return plus(q, r, behind_q, behind_r, bucket.rate)
  end

  local function nominal(bucket, place_q, place_r)
    local rate, behind_q, behind_r = bucket.rate, 0, 0
    for i = #bucket.notes.returned, 1, -1 do
      local span = bucket.notes.returned[i]
      local q, r = place_of(bucket, span, behind_q, behind_r)
      if less(q, r, place_q, place_r) then break end
      q, r = length(span, rate)
      behind_q, behind_r = plus(behind_q, behind_r, q, r, rate)
    end
    local q, r = plus(place_q, place_r, bucket.notes.credited_q, bucket.notes.credited_r, rate)
    return minus(q, r, behind_q, behind_r, rate)
  end

  local function actual(bucket, nominal_q, nominal_r)
    local rate = bucket.rate
    local q, r = minus(nominal_q, nominal_r, bucket.notes.credited_q, bucket.notes.credited_r, rate)
    for _, span in ipairs(bucket.notes.returned) do
      if less(nominal_q, nominal_r, span[3], span[4]) then
        local begin_q, begin_r = later(span[1], span[2], nominal_q, nominal_r)
        local length_q, length_r = minus(span[3], span[4], begin_q, begin_r, rate)
        q, r = plus(q, r, length_q, length_r, rate)
      end
    end
    return q, r
  end

  local function credit(bucket, q, r)
    q, r = plus(bucket.notes.credited_q, bucket.notes.credited_r, q, r, bucket.rate)
    bucket.notes.credited_q, bucket.notes.credited_r = earlier(q, r, MAX_CREDIT_US, 0)
    bucket.notes.kept_until = math.max(bucket.notes.kept_until, ceil(bucket.q, bucket.r))
  end

  local function move_up(bucket, begin_q, begin_r, end_q, end_r)
    local rate = bucket.rate
    local from_q, from_r = nominal(bucket, begin_q, begin_r)
    local returned = joined(bucket.notes.returned, from_q, from_r, nominal(bucket, end_q, end_r))
    if #returned > MAX_SPANS then table.remove(returned, 1) end
    bucket.notes.returned = returned
    local q, r = minus(end_q, end_r, begin_q, begin_r, rate)
    credit(bucket, q, r)
    bucket.q, bucket.r = minus(bucket.q, bucket.r, q, r, rate)
  end

  local function close_up(bucket, at)
    local vacancies = bucket.notes.vacancies
    for i = #vacancies, 1, -1 do
      local span = vacancies[i]
      if less(at, 0, span[3], span[4]) then
        local begin_q, begin_r = later(span[1], span[2], at, 0)
        move_up(bucket, begin_q, begin_r, span[3], span[4])
      end
    end
    bucket.notes.vacancies, bucket.notes.waiting_until = {}, 0
  end

  local function set_back(bucket, q, r)
    local rate = bucket.rate
    credit(bucket, q, r)
    bucket.q, bucket.r = minus(bucket.q, bucket.r, q, r, rate)
    bucket.notes.waiting_until = math.max(0, bucket.notes.waiting_until - q)
    for i, span in ipairs(bucket.notes.vacancies) do
      local begin_q, begin_r = minus(span[1], span[2], q, r, rate)
      bucket.notes.vacancies[i] = {begin_q, begin_r, minus(span[3], span[4], q, r, rate)}
    end
  end

  local function pass_time(bucket)
    local rate = bucket.rate
    if bucket.notes.waiting_until <= now then close_up(bucket, bucket.notes.waiting_until) end
    if bucket.notes.kept_until <= now and not less(now, 0, bucket.q, bucket.r) then
      bucket.notes.credited_q, bucket.notes.credited_r, bucket.notes.kept_until, bucket.notes.waiting_until = 0, 0, 0, 0
      bucket.notes.vacancies, bucket.notes.returned = {}, {}
      return
    end
    local returned, behind_q, behind_r, first = bucket.notes.returned, 0, 0, 1
    for i = #returned, 1, -1 do
      local q, r = place_of(bucket, returned[i], behind_q, behind_r)
      if not less(now, 0, q, r) then -- where it was is past
        first = i + 1
        break
      end
      q, r = length(returned[i], rate)
      behind_q, behind_r = plus(behind_q, behind_r, q, r, rate)
    end
    bucket.notes.returned = {unpack(returned, first)}
    local vacancies = {}
    for _, span in ipairs(bucket.notes.vacancies) do
      if less(now, 0, span[3], span[4]) then
        local begin_q, begin_r = later(span[1], span[2], now, 0)
        vacancies[#vacancies + 1] = {begin_q, begin_r, span[3], span[4]}
      end
    end
    bucket.notes.vacancies = vacancies
    bucket.q, bucket.r = later(bucket.q, bucket.r, now, 0)
  end

  -- As if the clock, which is behind by this, had stood still.
  local function mend(bucket, q, r)
    bucket.is_mended = true
    set_back(bucket, q, r)
  end

  function noted.begin(bucket)
    bucket.notes = bucket.notes
      or {credited_q = 0, credited_r = 0, kept_until = 0, waiting_until = 0, vacancies = {}, returned = {}}
    return bucket.notes
  end

  -- A plain bucket owes more than its tolerance.
  function noted.cut(bucket, q, r)
    noted.begin(bucket)
    mend(bucket, q, r)
    pass_time(bucket)
  end

  function noted.settle(bucket, numbers, is_other)
    local spans = {}
    for i = 10, #numbers, 4 do spans[#spans + 1] = {numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3]} end
    local count = numbers[9]
    local notes = {
      credited_q = numbers[5], credited_r = numbers[6], kept_until = numbers[7], waiting_until = numbers[8],
      vacancies = {unpack(spans, 1, count)}, returned = {unpack(spans, count + 1)},
    }
    bucket.notes = notes
    if is_other then
      notes.credited_q, notes.credited_r = ceil(notes.credited_q, notes.credited_r), 0
      notes.vacancies, notes.returned = within(notes.vacancies), within(notes.returned)
    end
    if numbers[4] > now then mend(bucket, numbers[4] - now, 0) end
    pass_time(bucket)
  end

  -- When a hit may go that takes a vacancy with this begin, and where its stretch then ends.
  local function turn_of(bucket, begin_q, begin_r)
    local rate = bucket.rate
    local q, r = plus(begin_q, begin_r, bucket.increment_q, bucket.increment_r, rate)
    local turn = math.max(now, ceil(minus(q, r, bucket.tolerance_q, bucket.tolerance_r, rate)))
    q, r = later(begin_q, begin_r, turn, 0) -- a turn is a whole microsecond, and counts as such
    return turn, plus(q, r, bucket.increment_q, bucket.increment_r, rate)
  end

  function noted.find_vacancy(bucket)
    for index, span in ipairs(bucket.notes.vacancies) do
      local turn, place_q, place_r = turn_of(bucket, span[1], span[2])
      if not less(span[3], span[4], place_q, place_r) then
        if turn - now <= bucket.wait then bucket.wait, bucket.taken = turn - now, index end
        return
      end
    end
  end

  function noted.take_vacancy(bucket)
    local vacancies = bucket.notes.vacancies
    local span = vacancies[bucket.taken]
    local _, place_q, place_r = turn_of(bucket, span[1], span[2])
    if less(place_q, place_r, span[3], span[4]) then
      vacancies[bucket.taken] = {place_q, place_r, span[3], span[4]}
    else
      table.remove(vacancies, bucket.taken)
    end
    local q, r = nominal(bucket, place_q, place_r)
    bucket.place_q, bucket.place_r = place_q, place_r
    bucket.before_q, bucket.before_r = minus(q, r, place_q, place_r, bucket.rate)
  end

  -- `wait` becomes that of who asks again: what is free may be closed up by then.
  function noted.keep(bucket)
    local rate, waiting_until, q, r = bucket.rate, bucket.notes.waiting_until, bucket.q, bucket.r
    if #bucket.notes.vacancies == 0 then return end
    for _, span in ipairs(bucket.notes.vacancies) do
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
    local rate, notes = bucket.rate, bucket.notes
    local vacancies, returned = notes.vacancies, notes.returned
    bucket.q, bucket.r = minus(bucket.q, bucket.r, owed_q, owed_r, rate)
    while true do -- and so does what is free or missing before it
      local vacancy, missing = vacancies[#vacancies], returned[#returned]
      local last_q, last_r = plus(bucket.q, bucket.r, notes.credited_q, notes.credited_r, rate)
      if vacancy and vacancy[3] == bucket.q and vacancy[4] == bucket.r then
        bucket.q, bucket.r = vacancy[1], vacancy[2]
        table.remove(vacancies)
      elseif missing and missing[3] == last_q and missing[4] == last_r then
        local q, r = length(missing, rate)
        notes.credited_q, notes.credited_r = minus(notes.credited_q, notes.credited_r, q, r, rate)
        table.remove(returned)
      else
        return
      end
    end
  end

  local function add_vacancy(bucket, begin_q, begin_r, end_q, end_r)
    local vacancies = joined(bucket.notes.vacancies, begin_q, begin_r, end_q, end_r)
    if #vacancies > MAX_SPANS then
      local smallest, smallest_q, smallest_r
      for i, span in ipairs(vacancies) do
        local q, r = length(span, bucket.rate)
        if not smallest or less(q, r, smallest_q, smallest_r) then smallest, smallest_q, smallest_r = i, q, r end
      end
      table.remove(vacancies, smallest)
    end
    bucket.notes.vacancies = vacancies
  end

  function noted.give_back(bucket, place_q, place_r, before_q, before_r, only_as_last)
    local rate, notes = bucket.rate, noted.begin(bucket)
    local nominal_q, nominal_r = plus(place_q, place_r, before_q, before_r, rate)
    local end_q, end_r = earlier(place_q, place_r, actual(bucket, nominal_q, nominal_r))
    local owed_q, owed_r = minus(end_q, end_r, now, 0, rate)
    owed_q, owed_r = earlier(owed_q, owed_r, bucket.increment_q, bucket.increment_r)
    local begin_q, begin_r = minus(end_q, end_r, owed_q, owed_r, rate)
    local last_q, last_r = plus(bucket.q, bucket.r, notes.credited_q, notes.credited_r, rate)
    local is_owed = less(0, 0, owed_q, owed_r) and notes.credited_q < MAX_CREDIT_US
    if not is_owed or less(last_q, last_r, nominal_q, nominal_r) then
      return -- nothing comes back
    elseif nominal_q == last_q and nominal_r == last_r then
      leave(bucket, owed_q, owed_r)
      if not only_as_last and notes.waiting_until > 0 then -- no later turn was told to those who are left
        local turn = ceil(minus(bucket.q, bucket.r, bucket.tolerance_q, bucket.tolerance_r, rate))
        notes.waiting_until = math.min(notes.waiting_until, turn)
        if turn <= now then close_up(bucket, now) end
      end
    elseif notes.waiting_until > 0 then
      local turn_q, turn_r = minus(end_q, end_r, bucket.tolerance_q, bucket.tolerance_r, rate)
      if not only_as_last then
        add_vacancy(bucket, begin_q, begin_r, end_q, end_r)
      elseif less(now, 0, turn_q, turn_r) then -- its turn has not come; until it is past, nothing is closed up
        add_vacancy(bucket, begin_q, begin_r, end_q, end_r)
        notes.waiting_until = math.max(notes.waiting_until, ceil(end_q, end_r))
      end
    elseif not only_as_last then
      move_up(bucket, begin_q, begin_r, end_q, end_r)
    end
  end

  -- Until when it says something, and as what it is stored; of a plain one, nothing.
  function noted.written(bucket)
    local q, r, notes = bucket.q, bucket.r, bucket.notes
    local has_credit = notes.credited_q > 0 or notes.credited_r > 0
    local kept_until = has_credit and notes.kept_until or 0
    if not has_credit and notes.waiting_until == 0 then
      local most_q, most_r = plus(now, 0, bucket.tolerance_q, bucket.tolerance_r, bucket.rate)
      if not less(most_q, most_r, q, r) then return 0 end
    end
    local numbers = {
      q, r, bucket.rate, now, notes.credited_q, notes.credited_r, kept_until, notes.waiting_until, #notes.vacancies,
    }
    for _, spans in ipairs({notes.vacancies, notes.returned}) do
      for _, span in ipairs(spans) do
        for i = 1, 4 do numbers[#numbers + 1] = span[i] end
      end
    end
    for i = 1, #numbers do numbers[i] = integer(numbers[i]) end
    return kept_until, table.concat(numbers, ' ')
  end

  return noted
end
