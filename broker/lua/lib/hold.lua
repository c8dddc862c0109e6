-- use: record story
-- rarely: conclude
local YES, ENDED, FENCED = 1, 2, 3

-- Whether the lease with this epoch still holds the request. The one gate of everything that a worker writes.
local function hold(record, epoch, now)
  if not record then return FENCED end
  if record.epoch == epoch and ended(record) then return ENDED end
  if record.epoch ~= epoch or record.state ~= 'running' then
    note(record, now, 'fence', '', epoch)
    return FENCED
  end
  if record.deadline_ms > 0 and now >= record.deadline_ms then
    conclude(load(record.ref), 'deadline', '', now)  -- append and renew have read less than this needs
    return ENDED
  end
  return YES
end

local function extend_lease(record, now)
  redis.call('ZADD', key('lease', record.pool), 'XX', string.format('%d', now + LEASE_MS), record.ref)
end
