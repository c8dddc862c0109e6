-- Virtual time: tokens served to a tenant in a pool, over its weight. The tenant's hash holds it, the fair sets order by it.
local BATCH_SCORE = 3e13

-- Moves a tenant's virtual time by tokens over weight; negative amounts are refunds and corrections.
local function advance(tenant, pool, amount)
  if amount == 0 then return end
  local time = redis.call('HINCRBYFLOAT', key('tenant', tenant), 'v:' .. pool, string.format('%.17g', amount))
  redis.call('ZADD', key('fair', pool), 'XX', time, tenant)
  redis.call('ZADD', key('fair_batch', pool), 'XX', time, tenant)
end

-- Puts a tenant into the fair set that its most urgent waiting request calls for, or into none.
-- Who enters a set starts at that set's least virtual time (the pool's clock when it is empty) if that is later than its
-- own: neither idling nor having had only batch work earns credit.
local function place(tenant, pool)
  local into, out_of = key('fair', pool), key('fair_batch', pool)
  local head = redis.call('ZRANGE', key('queue', pool, tenant), 0, 0, 'WITHSCORES')
  if not head[1] then
    redis.call('ZREM', into, tenant)
    redis.call('ZREM', out_of, tenant)
    return
  end
  if tonumber(head[2]) >= BATCH_SCORE then into, out_of = out_of, into end
  redis.call('ZREM', out_of, tenant)
  if redis.call('ZSCORE', into, tenant) then return end
  local least = redis.call('ZRANGE', into, 0, 0, 'WITHSCORES')[2] or redis.call('HGET', key('pool', pool), 'vclock') or '0'
  local time = redis.call('HGET', key('tenant', tenant), 'v:' .. pool) or '0'
  if tonumber(least) > tonumber(time) then
    time = least
    redis.call('HSET', key('tenant', tenant), 'v:' .. pool, time)
  end
  redis.call('ZADD', into, time, tenant)
end
