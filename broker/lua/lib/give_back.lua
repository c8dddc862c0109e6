-- use: conclude

-- Who gets on a little each time, and fails each time, ends as well.
local MOST = 5 * MAX_ATTEMPTS

-- Takes a running request from its worker: back to its place in the queue, or to its end when it may not run again.
-- A graceful attempt does not count. Of the failed ones MAX_ATTEMPTS in a row are the end. `shared`: all that ran there
-- failed with it; then one that has logged a chunk begins the row anew, for it got on, and the fault was more likely its
-- neighbour's. `kind` is how that is called in the story. Returns the outcome, or '' if it waits again.
local function give_back(record, kind, failed, shared, detail, now)
  local outcome = ''
  if failed then
    if shared and log_length(record) > record.claimed_length then record.failures = 0 end
    record.failures = record.failures + 1
    record.failed_by = record.worker
  end
  note(record, now, kind, record.worker, record.epoch, failed and 1 or 0, detail)
  if record.migratable == 0 and log_length(record) > 0 then
    outcome = 'not_migratable'
  elseif record.deadline_ms > 0 and now >= record.deadline_ms then
    outcome = 'deadline'
  elseif failed and (record.failures >= MAX_ATTEMPTS or record.attempts >= MOST) then
    outcome = 'attempts_exhausted'
  end
  if outcome ~= '' then
    conclude(record, outcome, detail, now)
    return outcome
  end
  redis.call('ZREM', key('lease', record.pool), record.ref)
  count(record, 'running', -1)
  advance(record, -record.charge)
  if not failed then record.attempts = record.attempts - 1 end
  record.state, record.charge = 'waiting', 0
  redis.call('HSET', key('request', record.ref), 'state', 'waiting', 'attempts', record.attempts,
    'failures', record.failures, 'failed_by', record.failed_by, 'charge', 0,
    'detail', detail, 'queued_ms', string.format('%d', now))
  enter_queue(record, now)
  return ''
end
