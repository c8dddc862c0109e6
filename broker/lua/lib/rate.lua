-- use: fairness
local WINDOW_MS = 2000
local FRESH_MS = 60000

-- How fast a pool is, in tokens as they were estimated, since what waits is known by its estimates alone, and in tokens
-- as they were used, since fairness is about these. Measured between two ends of running requests, at least WINDOW_MS
-- apart, with work waiting all the time: an idle pool, or one in which the first request has yet to end, says nothing.
local function measure(record, used, now)
  local pool = key('pool', record.pool)
  if redis.call('ZCARD', key('waiting', record.pool)) == 0 then return end
  local state = redis.call('HMGET', pool, 'window_ms', 'window_tokens', 'window_used', 'rate', 'used_rate', 'rate_ms')
  local elapsed = now - tonumber(state[1] or 0)
  local tokens = tonumber(state[2] or 0) + record.prompt_tokens + record.output_tokens
  used = used + tonumber(state[3] or 0)
  if elapsed < WINDOW_MS then
    redis.call('HSET', pool, 'window_tokens', tokens, 'window_used', used)
    return
  end
  if elapsed <= FRESH_MS then
    local rate, used_rate = tokens * 1000 / elapsed, used * 1000 / elapsed
    if now - tonumber(state[6] or 0) <= FRESH_MS then
      rate, used_rate = (rate + tonumber(state[4])) / 2, (used_rate + tonumber(state[5])) / 2
    end
    redis.call('HSET', pool, 'rate', string.format('%.17g', rate), 'used_rate', string.format('%.17g', used_rate),
      'rate_ms', string.format('%d', now))
  end
  redis.call('HSET', pool, 'window_ms', string.format('%d', now), 'window_tokens', 0, 'window_used', 0)
end

-- Tokens per second; nil when not known.
local function fresh_rate(rate, measured_ms, now)
  if rate and tonumber(rate) > 0 and now - tonumber(measured_ms) <= FRESH_MS then return tonumber(rate) end
  return nil
end
