-- What every script begins with: its words, and the time.
-- The files are joined in this order: clock, token_bucket_single (where the batch has token buckets), prelude, the algorithms
-- that it uses, decide.

local words = ARGV

-- Microseconds since the epoch. Exact: below 2^53 until the year 2255.
local time = redis.call('TIME')
local server_now = time[1] * 1000000 + time[2]
