-- Keeps a router's inbox, or makes it anew when it is gone or behind what the router has read.
--
-- KEYS 1 inbox
-- ARGV 1 position: how many entries were read, -1 at the start  2 time to live in ms
-- Result 1 if it was kept, 0 if it was made anew: the position is 0 then, and entries may have been lost
--
-- Keeps: ids are 0-1, 0-2, ... without a hole as long as the stream lives. A stream that is shorter than what was read
-- has lost its tail with a server; one that is gone has expired.

local position = tonumber(ARGV[1])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if position >= 0 and last and tonumber(string.sub(last[1], 3)) >= position then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  -- What was read is not needed again; the last entry stays, as the mark of how far the stream has come.
  if position > 1 then redis.call('XTRIM', KEYS[1], 'MINID', string.format('0-%d', position)) end
  return 1
end
redis.call('DEL', KEYS[1])
redis.call('XADD', KEYS[1], '0-1', 'open', '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
