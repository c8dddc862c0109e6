-- Virtual time: tokens served to a tenant in a pool, over its weight. Urgent (interactive and standard) and batch work
-- have clocks of their own: a tenant stands in the fair set of each class of which it has work waiting, and what it is
-- served in one moves nothing in the other. The tenant's hash holds its times, the fair sets order by them.
local BATCH_SCORE = '30000000000000'
local URGENT = {
  set = 'fair', time = 'v:', weight = 'w:', used = 'used:', estimated = 'estimated:', priorities = {1, 2},
  clock = 'vclock', tokens = 'tokens', weights = 'weights',
}
local BATCH = {
  set = 'fair_batch', time = 'bv:', weight = 'bw:', used = 'bused:', estimated = 'bestimated:', priorities = {3},
  clock = 'batch_vclock', tokens = 'batch_tokens', weights = 'batch_weights',
}

-- Scores are a priority (1 to 3) and, below 10^13, an order within it.
local function priority_of(record)
  return math.floor(record.score / 1e13)
end

-- In the set of all that waits in a pool: within a priority by when it began to wait, in ms.
local function since_score(record, now)
  return priority_of(record) * 1e13 + now
end

local function class_of(record)
  return record.score < tonumber(BATCH_SCORE) and URGENT or BATCH
end

-- How much of its estimates a tenant's requests have used lately, weighted by their size. It makes the charge at claim
-- come near to the truth: estimates hold all tokens that a client allows, mostly many more than it gets, and what is
-- charged too much keeps a tenant waiting until the request ends. Never below LEAST_SHARE, so that a charge always
-- holds a tenant back.
local MEMORY = 0.9
local LEAST_SHARE = 1 / 32

local function used_share(class, pool, tenant)
  local seen = redis.call('HMGET', key('tenant', tenant), class.used .. pool, class.estimated .. pool)
  local estimated = tonumber(seen[2] or 0)
  if estimated == 0 then return 1 end
  return math.max(LEAST_SHARE, tonumber(seen[1]) / estimated)
end

local function learn_share(record, used)
  local class, pool, tenant = class_of(record), record.pool, key('tenant', record.tenant)
  local seen = redis.call('HMGET', tenant, class.used .. pool, class.estimated .. pool)
  redis.call('HSET', tenant,
    class.used .. pool, string.format('%.17g', tonumber(seen[1] or 0) * MEMORY + used),
    class.estimated .. pool,
    string.format('%.17g', tonumber(seen[2] or 0) * MEMORY + record.prompt_tokens + record.output_tokens))
end

-- What a request is charged when it is claimed: the tokens that it is expected to use, over the weight.
local function charge_of(record)
  local share = used_share(class_of(record), record.pool, record.tenant)
  return math.ceil((record.prompt_tokens + record.output_tokens) * share) / record.weight
end

-- Moves a tenant's virtual time by tokens over weight; negative amounts are refunds and corrections.
local function advance(record, amount)
  if amount == 0 then return end
  local class, pool = class_of(record), record.pool
  local tenant, by = key('tenant', record.tenant), string.format('%.17g', amount)
  local time = redis.call('HINCRBYFLOAT', tenant, class.time .. pool, by)
  redis.call('ZADD', key(class.set, pool), 'XX', time, record.tenant)
end

-- The request of a tenant that is next in a class, and its score; nothing when none waits. `skip`: so many are passed by.
local function first_of(class, pool, tenant, skip)
  local queue, first = key('queue', pool, tenant), nil
  if class == BATCH then
    first = redis.call('ZRANGE', queue, BATCH_SCORE, '+inf', 'BYSCORE', 'LIMIT', skip, 1, 'WITHSCORES')
  else
    first = redis.call('ZRANGE', queue, skip, skip, 'WITHSCORES')
    if first[1] and tonumber(first[2]) >= tonumber(BATCH_SCORE) then return nil end
  end
  return first[1], tonumber(first[2])
end

-- Puts a tenant into the fair set of its request's class. Who enters starts at the set's least virtual time (the
-- class's clock when it is empty) if that is later than its own: idling earns no credit.
local function join(record)
  local class, pool, tenant = class_of(record), record.pool, key('tenant', record.tenant)
  local set = key(class.set, pool)
  if redis.call('ZSCORE', set, record.tenant) then return end
  local least = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2] or redis.call('HGET', key('pool', pool), class.clock)
  local time = redis.call('HGET', tenant, class.time .. pool) or '0'
  if least and tonumber(least) > tonumber(time) then time = least end
  -- In millionths, because sums of whole numbers do not drift.
  local weight = string.format('%d', math.max(1, record.weight * 1e6))
  redis.call('ZADD', set, time, record.tenant)
  redis.call('HSET', tenant, class.time .. pool, time, class.weight .. pool, weight)
  redis.call('HINCRBY', key('pool', pool), class.weights, weight)
end

-- The field of a tenant's hash that holds how many of its tokens wait in a pool at a priority.
local function tokens_field(priority, pool)
  return string.format('t%d:%s', priority, pool)
end

-- Takes a tenant out of a fair set when none of its requests of that class waits any more.
local function leave(record)
  local class, pool, tenant = class_of(record), record.pool, key('tenant', record.tenant)
  if first_of(class, pool, record.tenant, 0) then return end
  redis.call('ZREM', key(class.set, pool), record.tenant)
  local weight = redis.call('HGET', tenant, class.weight .. pool) or '0'
  redis.call('HDEL', tenant, class.weight .. pool)
  for _, priority in ipairs(class.priorities) do redis.call('HDEL', tenant, tokens_field(priority, pool)) end
  local left = redis.call('HINCRBY', key('pool', pool), class.weights, string.format('%d', -weight))
  if left == 0 then redis.call('HDEL', key('pool', pool), class.weights, class.tokens) end
end
