-- Shows a pool as of now.
--
-- KEYS 1 pool
-- ARGV 1 pool
-- Result {waiting requests, their tokens, running requests, tokens per second, in digits, or nil when not known}
--
-- Keeps: nothing is written.
-- use: clock rate

local state = redis.call('HMGET', KEYS[1], 'waiting', URGENT.tokens, BATCH.tokens, 'rate', 'rate_ms')
local rate = fresh_rate(state[4], state[5], now_ms())
return {
  tonumber(state[1] or 0), tonumber(state[2] or 0) + tonumber(state[3] or 0), redis.call('ZCARD', key('lease', ARGV[1])),
  rate and string.format('%.17g', rate) or false,
}
