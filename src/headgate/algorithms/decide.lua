-- The frame around the algorithms: reads a batch of groups, judges each, spends all of a group or none, and answers.
--
-- KEYS: one for each hit, in order.
-- ARGV: now ('' for the server's own clock), then for each group: action, max_wait, number of hits, the number of words
--       that follow, and for each hit its algorithm and that algorithm's arguments; before these, where tokens are to be left
--       behind it, `spare`, and the same of a hit that would take them, too. With the action `each`, that many single
--       hits to spend, which share their arguments. With `once`, until when the mark is good (of a `spend`: how long) in
--       place of max_wait, and the number of keys: those of the hits, and that of the mark; then the action, and the hits'
--       words. With the action `undo` behind `once`, these come twice: as of a `peek`, and as of a `give_back`.
-- Reply: {now, then for each group: 1 (allowed), 0, or 2 (of `once`: nothing was done, since the mark was known, or it was
--        too late to know), and for each hit the algorithm's facts}, all integers; or, for a
--        group in which a table of windows does not cover now, -1 alone; or, for one that met a key it cannot read, -2
--        and the error. Nothing of such a group was written, and the others are judged all the same. For `each`: what
--        token_bucket_each.lua answers, or STRANGE and then the reply of a group.
local STRANGE = -9007199254740991

-- Has the penalties of a group that was denied count what they watch: the hits before each, back to the penalty before.
local function count_denials(judged, size)
  local penalty = algorithms.pn
  for i = 1, size do
    if judged[i].algorithm == penalty and not judged[i].allowed then return end -- what a block denies counts nowhere
  end
  local is_denied = false
  for i = 1, size do
    if judged[i].algorithm ~= penalty then
      is_denied = is_denied or not judged[i].allowed
    else
      if is_denied then penalty.count(judged[i]) end
      is_denied = false
    end
  end
end

local function judge_group(action, max_wait, size)
  local judged, allowed = {}, true
  local forgets = action == 'forget'
  local looks = action == 'look'
  local judges = forgets or looks or action == 'spend' or action == 'peek'
  is_stale = false
  for i = 1, size do
    key_at = key_at + 1
    local key, code = KEYS[key_at], text()
    local hit, wider
    if code == 'spare' then
      wider = algorithms[text()].judge(key, max_wait)
      code = text()
    end
    local algorithm = algorithms[code]
    if forgets then redis.call('DEL', key) end
    if judges then hit = algorithm.judge(key, max_wait) else hit = algorithm[action](key) end
    if wider and not wider.allowed then hit = wider end
    if hit.allowed == false and not looks then allowed = false end
    hit.algorithm = algorithm
    judged[i] = hit
  end
  if is_stale then
    answer(-1)
    return false
  end
  answer(allowed and 1 or 0)
  if algorithms.pn and not allowed and action == 'spend' then count_denials(judged, size) end
  for i = 1, size do
    local hit = judged[i]
    local algorithm = hit.algorithm
    if allowed and action == 'spend' then
      algorithm.spend(hit)
    elseif judges and algorithm.keep then
      algorithm.keep(hit, action)
    end
    algorithm.report(hit)
  end
  return allowed
end

-- A group that counts once: where there is a mark, or where it is too late to know, it only tells how things stand. What
-- was denied leaves no mark. A mark is until when it is good, and of a spend of which a repeat was told, with a + before.
local function judge_once(until_us, size)
  local action, mark, answer_at, hits_at = text(), KEYS[key_at + size], #answers + 1, key_at
  if action == 'spend' then until_us = now + until_us end
  local known = redis.call('GET', mark)
  if action == 'undo' then
    local is_as_left = until_us > now and known == integer(until_us)
    local can_be = judge_group('look', 0, size - 1)
    if not is_as_left then
      if can_be then answers[answer_at] = 2 end
    elseif can_be then
      redis.call('DEL', mark) -- first: whatever goes wrong then, it is not done again
      for i = #answers, answer_at, -1 do answers[i] = nil end
      key_at = hits_at
      judge_group('give_back', 0, size - 1)
    end
    return
  end
  -- By a test's clock, a mark may be over before it expires; of one that was carried here, the end is not told.
  local is_over = until_us <= now or (known and (known == '1' or tonumber(known) > now))
  local allowed = judge_group(is_over and 'look' or action, 0, size - 1)
  if allowed and not is_over then
    redis.call('SET', mark, integer(until_us), 'PXAT', expires_at_ms(until_us))
  elseif allowed then
    answers[answer_at] = 2
    if action == 'spend' and known and known ~= '1' and string.sub(known, 1, 1) ~= '+' then
      redis.call('SET', mark, '+' .. known, 'PXAT', expires_at_ms(tonumber(known)))
    end
  end
end

-- Does `work`; an error takes back what it answered, and is answered instead.
local function guarded(work, ...)
  local answered = #answers
  local is_done, problem = pcall(work, ...)
  if not is_done then
    for i = #answers, answered + 1, -1 do answers[i] = nil end
    answer(-2)
    answer(type(problem) == 'table' and problem.err or tostring(problem))
  end
end

local function judge_each(size)
  local keys = {unpack(KEYS, key_at + 1, key_at + size)}
  local first_at, first_key_at = at, key_at
  for i = algorithms.each(keys) + 1, size do
    at, key_at = first_at, first_key_at + i - 1
    answer(STRANGE)
    guarded(judge_group, 'spend', 0, 1)
  end
end

while at < #words do
  local action, max_wait, size, length = text(), number(), number(), number()
  local next_at, next_key_at = at + length, key_at + size
  if action == 'each' then
    judge_each(size)
  elseif action == 'once' then
    guarded(judge_once, max_wait, size)
  else
    guarded(judge_group, action, max_wait, size)
  end
  at, key_at = next_at, next_key_at
end
return answers
