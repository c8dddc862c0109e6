-- Adds one chunk to a request's log and passes it to the routers that follow it.
--
-- KEYS 1 request  2 log  3 lease set of the pool
-- ARGV 1 ref  2 epoch  3 index  4 chunk  5 tokens in it  6 prompt tokens by the engine, 0: unknown  7 of them cached
-- Result {1 yes | 2 ended | 3 fenced | 'hole' | 'conflict', length of the log}
--
-- Keeps: only the current epoch writes; indices are 0, 1, 2, ... with no hole and no repeat; nothing is written past the
-- deadline.
-- use: clock hold token_log

local now = now_ms()
local record = load(ARGV[1], WRITING)
local held = hold(record, tonumber(ARGV[2]), now)
if held ~= YES then return {held, 0} end

local done, length = write_chunk(record, tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]),
  tonumber(ARGV[7]), now)
if done == HOLE or done == CONFLICT then return {done, length} end
extend_lease(record, now)
return {YES, length}
