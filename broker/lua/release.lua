-- Gives a request back: its worker drains, or failed on it.
--
-- KEYS 1 request
-- ARGV 1 ref  2 epoch  3 '1' if the attempt failed, '2' if all that ran there failed with it, else '0'  4 what went wrong
-- Result 1 yes | 2 ended | 3 fenced
--
-- Keeps: it goes back to its old place in the queue or ends, never both; only failed attempts count; what cannot migrate
-- is not started anew after its first chunk.
-- use: clock give_back hold

local now, epoch = now_ms(), tonumber(ARGV[2])
local record = load(ARGV[1])
-- The same release sent again after a lost reply: it waits, and no newer lease has been given.
if record and record.state == 'waiting' and record.epoch == epoch then return YES end
local held = hold(record, epoch, now)
if held ~= YES then return held end
give_back(record, 'release', ARGV[3] ~= '0', ARGV[3] == '2', ARGV[4], now)
return YES
