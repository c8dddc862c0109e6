-- use: accounts fairness

-- One token wakes one idle worker; a claim that leaves work behind rings again, so more than one is never needed.
local function ring(pool)
  local bell = key('bell', pool)
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

-- Tokens that wait, for the estimate of when a turn comes: of the pool by class, of the tenant by priority.
local function count_tokens(record, sign)
  local tokens = string.format('%d', sign * (record.prompt_tokens + record.output_tokens))
  redis.call('HINCRBY', key('pool', record.pool), class_of(record).tokens, tokens)
  redis.call('HINCRBY', key('tenant', record.tenant), tokens_field(math.floor(record.score / 1e13), record.pool), tokens)
end

-- The score is kept for the request's whole life: whoever comes back takes its old place.
local function enter_queue(record)
  redis.call('ZADD', key('queue', record.pool, record.tenant), string.format('%.17g', record.score), record.ref)
  redis.call('HINCRBY', key('pool', record.pool), 'waiting', 1)
  count_tokens(record, 1)
  count(record, 'waiting', 1)
  join(record)
  ring(record.pool)
end

local function leave_queue(record)
  redis.call('ZREM', key('queue', record.pool, record.tenant), record.ref)
  local waiting = redis.call('HINCRBY', key('pool', record.pool), 'waiting', -1)
  count_tokens(record, -1)
  count(record, 'waiting', -1)
  leave(record)
  -- A pool that was idle has no rate (lib/rate.lua).
  if waiting == 0 then redis.call('HDEL', key('pool', record.pool), 'window_ms', 'window_tokens') end
end
