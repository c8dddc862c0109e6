-- use: fairness
local WINDOW_MS = 2000
local FRESH_MS = 60000

-- A pool's rate is in tokens as they were estimated, since what waits is known by its estimates alone. It is measured
-- between two ends of running requests, at least WINDOW_MS apart, with work waiting all the time: an idle pool, or one in
-- which the first request has yet to end, says nothing about how fast it is.
local function measure(record, now)
  local pool = key('pool', record.pool)
  if redis.call('ZCARD', key('waiting', record.pool)) == 0 then return end
  local state = redis.call('HMGET', pool, 'window_ms', 'window_tokens', 'rate', 'rate_ms')
  local since, tokens = tonumber(state[1] or 0), tonumber(state[2] or 0) + record.prompt_tokens + record.output_tokens
  local elapsed = now - since
  if elapsed < WINDOW_MS then
    redis.call('HSET', pool, 'window_tokens', tokens)
    return
  end
  if elapsed <= FRESH_MS then
    local rate = tokens * 1000 / elapsed
    if now - tonumber(state[4] or 0) <= FRESH_MS then rate = (rate + tonumber(state[3])) / 2 end
    redis.call('HSET', pool, 'rate', string.format('%.17g', rate), 'rate_ms', string.format('%d', now))
  end
  redis.call('HSET', pool, 'window_ms', string.format('%d', now), 'window_tokens', 0)
end

-- Tokens per second; nil when not known.
local function fresh_rate(rate, measured_ms, now)
  if rate and tonumber(rate) > 0 and now - tonumber(measured_ms) <= FRESH_MS then return tonumber(rate) end
  return nil
end
