-- use: fairness

-- One token wakes one idle worker; a claim that leaves work behind rings again, so more than one is never needed.
local function ring(pool)
  local bell = key('bell', pool)
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

-- The score is kept for the request's whole life: whoever comes back takes its old place.
local function enter_queue(record)
  redis.call('ZADD', key('queue', record.pool, record.tenant), string.format('%.17g', record.score), record.ref)
  redis.call('HINCRBY', key('pool', record.pool), 'waiting', 1)
  redis.call('HINCRBY', key('tenant', record.tenant), 'waiting', 1)
  place(record.tenant, record.pool)
  ring(record.pool)
end

local function leave_queue(record)
  redis.call('ZREM', key('queue', record.pool, record.tenant), record.ref)
  redis.call('HINCRBY', key('pool', record.pool), 'waiting', -1)
  redis.call('HINCRBY', key('tenant', record.tenant), 'waiting', -1)
  place(record.tenant, record.pool)
end
