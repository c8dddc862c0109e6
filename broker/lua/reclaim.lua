-- Takes back requests whose lease has run out.
--
-- KEYS 1 lease set of the pool
-- ARGV 1 at most so many
-- Result {{ref, worker, epoch, outcome or '' if it waits again}, ...}
--
-- Keeps: a dead worker's requests run again or end; the worker, should it live, is fenced off and told.
-- use: clock give_back

local now = now_ms()
local reclaimed = {}
local expired = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, ref in ipairs(expired) do
  local record = load(ref)
  if record then
    tell_worker(record)
    local outcome = give_back(record, 'reclaim', true, true, 'the lease ran out', now)
    reclaimed[#reclaimed + 1] = {ref, record.worker, record.epoch, outcome}
  else
    -- Deleted by hand, or evicted: one loss must not stop the pool.
    redis.call('ZREM', KEYS[1], ref)
  end
end
return reclaimed
