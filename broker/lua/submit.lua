-- Stores a request and queues it, once for each id.
--
-- KEYS 1 request
-- ARGV 1 ref  2 tenant  3 pool  4 digest  5 job  6 decision  7 router  8 timeout in ms, 0: none
--      9 prompt tokens  10 output tokens  11 priority  12 weight  13 migratable, 0 or 1  14 most waiting requests
-- Result {'accepted' | 'joined' | 'conflict' | 'queue_full', waiting requests of the tenant in the pool}
--
-- Keeps: an id names one body for as long as it is known, however often and however many at a time submit it; the
-- tenant's reserved tokens are the sum over its waiting and running requests.
-- use: clock queue

local ref, tenant, pool = ARGV[1], ARGV[2], ARGV[3]
local prompt, output, priority = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local waiting = redis.call('ZCARD', key('queue', pool, tenant))

local digest = redis.call('HGET', KEYS[1], 'digest')
if digest then return {digest == ARGV[4] and 'joined' or 'conflict', waiting} end
if waiting >= tonumber(ARGV[14]) then return {'queue_full', waiting} end

local now = now_ms()
local timeout = tonumber(ARGV[8])
local deadline = timeout > 0 and now + timeout or 0
local arrival = redis.call('HINCRBY', key('pool', pool), 'arrivals', 1)
local record = {ref = ref, tenant = tenant, pool = pool, score = priority * 1e13 + arrival}

redis.call('HSET', KEYS[1], 'state', 'waiting', 'tenant', tenant, 'pool', pool, 'digest', ARGV[4], 'job', ARGV[5],
  'decision', ARGV[6], 'owners', ARGV[7], 'deadline_ms', string.format('%d', deadline), 'prompt_tokens', prompt,
  'output_tokens', output, 'priority', priority, 'weight', ARGV[12], 'migratable', ARGV[13],
  'score', string.format('%d', record.score), 'epoch', 0, 'attempts', 0, 'submitted_ms', string.format('%d', now))
redis.call('HINCRBY', key('tenant', tenant), 'reserved', prompt + output)
enter_queue(record)
return {'accepted', waiting + 1}
