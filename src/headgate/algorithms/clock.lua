-- What every script begins with: the time, and where we stand in the arguments.
-- The files are joined in this order: clock, token_bucket_plain (where the batch has token buckets), prelude, the algorithms
-- that it uses, decide.

-- Microseconds since the epoch. Exact: below 2^53 until the year 2255.
local time = redis.call('TIME')
local server_now = time[1] * 1000000 + time[2]
local now = tonumber(ARGV[1]) or server_now

local answers, at, key_at = {now}, 1, 0
