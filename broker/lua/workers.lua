-- Lists the live workers of a pool.
--
-- KEYS 1 workers of the pool  2 what they said
-- ARGV 1 how many ms ago the last heartbeat may be
-- Result {worker, description, worker, description, ...}
--
-- Keeps: nothing is written.
-- use: clock

local since = string.format('(%d', now_ms() - tonumber(ARGV[1]))
local live = {}
for _, worker in ipairs(redis.call('ZRANGE', KEYS[1], since, '+inf', 'BYSCORE')) do
  live[#live + 1] = worker
  live[#live + 1] = redis.call('HGET', KEYS[2], worker)
end
return live
