-- Gives a worker up to n requests of a pool, each with a lease and a new epoch.
--
-- KEYS 1 pool
-- ARGV 1 pool  2 worker  3 profile  4 n
-- Result {{ref, epoch, attempt, remaining ms or -1, job, {chunk, ...}}, ...}
--
-- Keeps: the tenant with the least virtual time is served first, and of its requests the most urgent; batch work goes
-- after all other but for every BATCH_TURN-th claim; a request whose deadline has passed is ended, never given out;
-- a new lease has a higher epoch than any before.
-- use: clock conclude

-- Requests that have outlived their deadline are ended on the way; the bound keeps one call short.
local EXPIRED_MAX = 100

local pool, worker, profile, wanted = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local urgent, batch = key('fair', pool), key('fair_batch', pool)
local now = now_ms()
local state = redis.call('HMGET', KEYS[1], 'claims', 'vclock')
local served, clock = tonumber(state[1] or 0), tonumber(state[2] or 0)
local claims, expired = {}, 0

while #claims < wanted and expired < EXPIRED_MAX do
  local first, second = urgent, batch
  if (served + 1) % BATCH_TURN == 0 then first, second = batch, urgent end
  local head = redis.call('ZRANGE', first, 0, 0, 'WITHSCORES')
  if not head[1] then head = redis.call('ZRANGE', second, 0, 0, 'WITHSCORES') end
  if not head[1] then break end
  local ref = redis.call('ZRANGE', key('queue', pool, head[1]), 0, 0)[1]
  local record = load(ref)

  if not record then
    -- Deleted by hand, or evicted: one loss must not stop the pool.
    leave_queue({ref = ref, pool = pool, tenant = head[1]})
    expired = expired + 1
  elseif record.deadline_ms > 0 and now >= record.deadline_ms then
    conclude(record, 'deadline', '', now)
    expired = expired + 1
  else
    served = served + 1
    if tonumber(head[2]) > clock then
      clock = tonumber(head[2])
      redis.call('HSET', KEYS[1], 'vclock', head[2])
    end
    leave_queue(record)
    local charge = (record.prompt_tokens + record.output_tokens) / record.weight
    advance(record.tenant, pool, charge)
    redis.call('HINCRBY', key('tenant', record.tenant), 'running', 1)
    redis.call('ZADD', key('lease', pool), string.format('%d', now + LEASE_MS), record.ref)
    if record.claimed_ms == 0 then record.claimed_ms = now end
    redis.call('HSET', key('request', record.ref), 'state', 'running', 'epoch', record.epoch + 1,
      'attempts', record.attempts + 1, 'worker', worker, 'profile', profile,
      'claimed_ms', string.format('%d', record.claimed_ms), 'charge', string.format('%.17g', charge))
    local remaining = -1
    if record.deadline_ms > 0 then remaining = record.deadline_ms - now end
    claims[#claims + 1] = {
      record.ref, record.epoch + 1, record.attempts + 1, remaining,
      redis.call('HGET', key('request', record.ref), 'job'),
      redis.call('LRANGE', key('log', record.ref), 0, -1),
    }
  end
end

if #claims > 0 then redis.call('HSET', KEYS[1], 'claims', served) end
if tonumber(redis.call('HGET', KEYS[1], 'waiting') or 0) > 0 then
  ring(pool)
else
  redis.call('DEL', key('bell', pool))
end
return claims
