-- Extends a lease, for a worker that has nothing to append yet.
--
-- KEYS 1 request  2 lease set of the pool
-- ARGV 1 ref  2 epoch
-- Result 1 yes | 2 ended | 3 fenced
--
-- Keeps: only the current epoch renews; past the deadline the request ends instead.
-- use: clock hold

local now = now_ms()
local record = load(ARGV[1], WRITING)
local held = hold(record, tonumber(ARGV[2]), now)
if held == YES then extend_lease(record, now) end
return held
