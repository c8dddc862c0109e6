-- Shows a worker as live, tells it what operators want of it, and whether it is ejected.
--
-- KEYS 1 workers of the pool  2 what they said  3 directives  4 how they do
-- ARGV 1 worker  2 its description  3 after how many ms of silence a worker is forgotten
--      4 after how many it does not count as live  5 '1' if it would claim, else '0'
--      6 its latest attempts  7 of them failed by its engine  8 output tokens a second of one stream, 0: not known
-- Result {the worker's directive, '': it shall serve; why it is ejected, '': it is not; how many other workers are in}
--
-- Keeps: the first two keys and the last name the same workers, and vanish when nobody beats any more; directives stay;
-- at least half of a pool's workers that serve are not ejected.
-- use: clock ejection

local now, forget = now_ms(), tonumber(ARGV[3])
local name = ARGV[1]

-- A worker's entry among how they do: '<serves> <attempts> <failed> <rate> <reason>'.
local function read(entry)
  local serves, attempts, failed, rate, reason = string.match(entry or '', '^(%d) (%d+) (%d+) (%S+) (%S*)$')
  if not serves then return {serves = true, reason = '', attempts = 0, failed = 0, rate = 0} end
  return {
    serves = serves == '1', reason = reason, attempts = tonumber(attempts), failed = tonumber(failed),
    rate = tonumber(rate),
  }
end

redis.call('ZADD', KEYS[1], string.format('%d', now), name)
redis.call('HSET', KEYS[2], name, ARGV[2])
for _, worker in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now - forget), 'BYSCORE')) do
  redis.call('ZREM', KEYS[1], worker)
  redis.call('HDEL', KEYS[2], worker)
  redis.call('HDEL', KEYS[4], worker)
end

local peers, others = {}, 0
local since = string.format('(%d', now - tonumber(ARGV[4]))
for _, worker in ipairs(redis.call('ZRANGE', KEYS[1], since, '+inf', 'BYSCORE')) do
  if worker ~= name then
    local peer = read(redis.call('HGET', KEYS[4], worker))
    if peer.serves then
      peers[#peers + 1] = peer
      if peer.reason == '' then others = others + 1 end
    end
  end
end
local reason = ejection({
  serves = ARGV[5] == '1', reason = read(redis.call('HGET', KEYS[4], name)).reason,
  attempts = tonumber(ARGV[6]), failed = tonumber(ARGV[7]), rate = tonumber(ARGV[8]),
}, peers)
redis.call('HSET', KEYS[4], name, table.concat({ARGV[5], ARGV[6], ARGV[7], ARGV[8], reason}, ' '))
for _, each in ipairs({KEYS[1], KEYS[2], KEYS[4]}) do redis.call('PEXPIRE', each, forget) end
return {redis.call('HGET', KEYS[3], name) or '', reason, others}
