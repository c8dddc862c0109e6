-- Shows a worker as live, and tells it what operators want of it.
--
-- KEYS 1 workers of the pool  2 what they said  3 directives
-- ARGV 1 worker  2 its description  3 after how many ms of silence a worker is forgotten
-- Result the worker's directive; nil: it shall serve
--
-- Keeps: the first two keys name the same workers, and vanish when nobody beats any more; directives stay.
-- use: clock

local now, forget = now_ms(), tonumber(ARGV[3])
redis.call('ZADD', KEYS[1], string.format('%d', now), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, worker in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now - forget), 'BYSCORE')) do
  redis.call('ZREM', KEYS[1], worker)
  redis.call('HDEL', KEYS[2], worker)
end
redis.call('PEXPIRE', KEYS[1], forget)
redis.call('PEXPIRE', KEYS[2], forget)
return redis.call('HGET', KEYS[3], ARGV[1])
