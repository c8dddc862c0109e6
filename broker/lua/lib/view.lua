-- use: record accounts ending fairness

-- A request as people look at it, in the order in which broker/story.py reads it; nil when there is none. What it has used
-- and costs is final once it has ended, and before that what is known so far.
local function view_of(ref)
  local record = load(ref)
  if not record then return nil end
  local terms = book_of(record)
  local usage = {record.engine_prompt, record.engine_cached, record.logged_tokens}
  if ended(record) then usage = {record.used_prompt, record.used_cached, record.used_output} end
  local cost, fp8_cost = 0, 0
  if not FAILED[record.outcome] then
    cost, fp8_cost = cost_of(terms.price, unpack(usage)), cost_of(terms.fp8_price, unpack(usage))
  end
  local view = {
    ref, record.state, record.pool, redis.call('HGET', key('request', ref), 'decision'), terms.name, record.worker,
    record.profile, record.outcome, record.detail,
  }
  for _, number in ipairs({
    priority_of(record), record.epoch, record.attempts, record.submitted_ms, record.queued_ms, record.claimed_ms,
    record.first_chunk_ms, record.ended_ms, record.deadline_ms, usage[1], usage[2], usage[3], cost, fp8_cost,
  }) do
    view[#view + 1] = string.format('%d', number)
  end
  return view
end
