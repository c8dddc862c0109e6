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
  redis.call('HINCRBY', key('tenant', record.tenant), tokens_field(priority_of(record), record.pool), tokens)
end

-- How many requests wait in a pool, of all tenants.
local function waiting_in(pool)
  return redis.call('ZCARD', key('waiting', pool))
end

-- The score is kept for the request's whole life: whoever comes back takes its old place. `now` goes into the request's
-- `queued_ms` too, where its other fields are written.
local function enter_queue(record, now)
  redis.call('ZADD', key('queue', record.pool, record.tenant), string.format('%.17g', record.score), record.ref)
  redis.call('ZADD', key('waiting', record.pool), string.format('%d', since_score(record, now)), record.ref)
  count_tokens(record, 1)
  count(record, 'waiting', 1)
  join(record)
  ring(record.pool)
end

local function leave_queue(record)
  redis.call('ZREM', key('queue', record.pool, record.tenant), record.ref)
  redis.call('ZREM', key('waiting', record.pool), record.ref)
  count_tokens(record, -1)
  count(record, 'waiting', -1)
  leave(record)
  -- A pool that was idle has no rate (lib/rate.lua).
  if waiting_in(record.pool) == 0 then
    redis.call('HDEL', key('pool', record.pool), 'window_ms', 'window_tokens', 'window_used', 'window_ends')
  end
end
