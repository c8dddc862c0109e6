-- Shows a pool as of now.
--
-- KEYS 1 pool
-- ARGV 1 pool
-- Result {waiting tokens, running requests, tokens per second, in digits, or nil when not known,
--        for each priority from 1: waiting requests, ms that the oldest has waited}
--
-- Keeps: nothing is written.
-- use: clock rate

local PRIORITIES = 3

local now, pool = now_ms(), ARGV[1]
local state = redis.call('HMGET', KEYS[1], URGENT.tokens, BATCH.tokens, 'rate', 'rate_ms')
local rate = fresh_rate(state[3], state[4], now)
local shown = {
  tonumber(state[1] or 0) + tonumber(state[2] or 0), redis.call('ZCARD', key('lease', pool)),
  rate and string.format('%.17g', rate) or false,
}
local set = key('waiting', pool)
for priority = 1, PRIORITIES do
  local first, last = string.format('%d', priority * 1e13), string.format('(%d', (priority + 1) * 1e13)
  local oldest = redis.call('ZRANGE', set, first, last, 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  shown[#shown + 1] = oldest and redis.call('ZCOUNT', set, first, last) or 0
  shown[#shown + 1] = oldest and math.max(0, now - (tonumber(oldest) - priority * 1e13)) or 0
end
return shown
