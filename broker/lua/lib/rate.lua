-- use: fairness
local WINDOW_MS = 2000
local FRESH_MS = 60000
-- The first rate of a pool is taken sooner, so that a burst is not admitted for seconds: after so many ends.
local FIRST_WINDOW_MS = 500
local FIRST_ENDS = 8
local PACE_MEMORY = 0.95
-- Estimates err: what would take longer than a time over SLACK is not expected to be done in it.
local SLACK = 1.2
-- Ends by the engine's word: all that the request was estimated at has left the queue for good work.
local WHOLE = {stop = true, length = true, rejected = true}

-- How fast a pool is, in tokens as they were estimated, since what waits is known by its estimates alone, and in tokens
-- as they were used, since fairness is about these. Measured between two ends of running requests, at least WINDOW_MS
-- apart, with work waiting all the time: an idle pool, or one in which the first request has yet to end, says nothing.
-- Of what was cut off, by its deadline for instance, only what it used counts: a pool that finishes nothing in time
-- would seem to be a fast one otherwise, and admit still more.
local function measure(record, outcome, used, now)
  local pool = key('pool', record.pool)
  if redis.call('ZCARD', key('waiting', record.pool)) == 0 then return end
  local state = redis.call('HMGET', pool, 'window_ms', 'window_tokens', 'window_used', 'window_ends', 'rate',
    'used_rate', 'rate_ms')
  local elapsed = now - tonumber(state[1] or 0)
  local known = now - tonumber(state[7] or 0) <= FRESH_MS
  local tokens = tonumber(state[2] or 0) + (WHOLE[outcome] and record.prompt_tokens + record.output_tokens or used)
  local ends = tonumber(state[4] or 0) + 1
  used = used + tonumber(state[3] or 0)
  if elapsed < WINDOW_MS and (known or elapsed < FIRST_WINDOW_MS or ends < FIRST_ENDS) then
    redis.call('HSET', pool, 'window_tokens', tokens, 'window_used', used, 'window_ends', ends)
    return
  end
  if elapsed <= FRESH_MS then
    local rate, used_rate = tokens * 1000 / elapsed, used * 1000 / elapsed
    if known then
      rate, used_rate = (rate + tonumber(state[5])) / 2, (used_rate + tonumber(state[6])) / 2
    end
    redis.call('HSET', pool, 'rate', string.format('%.17g', rate), 'used_rate', string.format('%.17g', used_rate),
      'rate_ms', string.format('%d', now))
  end
  redis.call('HSET', pool, 'window_ms', string.format('%d', now), 'window_tokens', 0, 'window_used', 0,
    'window_ends', 0)
end

-- Tokens per second; nil when not known.
local function fresh_rate(rate, measured_ms, now)
  if rate and tonumber(rate) > 0 and now - tonumber(measured_ms) <= FRESH_MS then return tonumber(rate) end
  return nil
end

-- How long runs of a pool take for an output token, their prefill included: of those in one attempt that came to their
-- own end, the latest counting most. Those that were cut off would have it that all are slow.
local function learn_pace(record, outcome, output, now)
  if record.epoch > 1 or output == 0 or (outcome ~= 'stop' and outcome ~= 'length') then return end
  local pool = key('pool', record.pool)
  local seen = redis.call('HMGET', pool, 'run_ms', 'run_tokens')
  redis.call('HSET', pool,
    'run_ms', string.format('%.17g', tonumber(seen[1] or 0) * PACE_MEMORY + (now - record.claimed_ms)),
    'run_tokens', string.format('%.17g', tonumber(seen[2] or 0) * PACE_MEMORY + output),
    'pace_ms', string.format('%d', now))
end

-- How many ms a request is expected to run, if it uses as much of its estimate as its tenant's did lately; 0 when that
-- is not known.
local function run_of(record, now)
  local state = redis.call('HMGET', key('pool', record.pool), 'run_ms', 'run_tokens', 'pace_ms')
  if not state[1] or now - tonumber(state[3]) > FRESH_MS then return 0 end
  local output = record.output_tokens * used_share(class_of(record), record.pool, record.tenant)
  return math.floor(tonumber(state[1]) / tonumber(state[2]) * output + 0.5)
end
