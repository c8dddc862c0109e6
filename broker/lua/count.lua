-- Adds to a set of counters.
--
-- KEYS 1 counters
-- ARGV 1 for how many ms they are kept after the last addition, then name, amount, name, amount, ...
-- Result how many counters there are
--
-- Keeps: a batch is added whole or not at all.

for i = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('HLEN', KEYS[1])
