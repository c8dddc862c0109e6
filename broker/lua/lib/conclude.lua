-- use: record ending queue rate usage notify story

-- Ends a waiting or running request, once and for all: it leaves its queue or loses its lease, what it used takes the
-- place of what it reserved, its tenant's virtual time is set right, its usage is booked, its job (the prompt) is
-- deleted, its keys expire after the resume window, and every owner is told. `usage` is {prompt, cached, output};
-- without it what the log and the estimate say counts, and of a request that was never claimed nothing.
local function conclude(record, outcome, detail, now, usage)
  local request, log, terms = key('request', record.ref), key('log', record.ref), book_of(record)
  if not usage then
    local prompt = record.engine_prompt
    if prompt == 0 and record.claimed_ms > 0 then prompt = record.prompt_tokens end
    usage = {prompt, record.engine_cached, record.logged_tokens}
  end

  -- Only work that was done counts for fairness: a request that no engine has worked on costs nothing.
  local spent = 0
  if record.state == 'running' or record.logged_tokens > 0 then spent = usage[1] + usage[3] end
  advance(record, spent / record.weight - record.charge)
  if record.state == 'running' then
    note(record, now, 'end', record.worker, record.epoch, 0, outcome .. ' ' .. detail)
    redis.call('ZREM', key('lease', record.pool), record.ref)
    count(record, 'running', -1)
    learn_share(record, spent)
    measure(record, outcome, spent, now)
    learn_pace(record, outcome, usage[3], now)
  else
    note(record, now, 'end', '', 0, 0, outcome .. ' ' .. detail)
    leave_queue(record)
  end

  local failed, cost, fp8_cost = 1, 0, 0
  if not FAILED[outcome] then
    failed, cost, fp8_cost = 0, cost_of(terms.price, unpack(usage)), cost_of(terms.fp8_price, unpack(usage))
  end
  settle(record, usage[1] + usage[3], cost, now)
  book_usage(record, {1, failed, usage[1], usage[2], usage[3], cost, fp8_cost}, now)

  record.state, record.outcome, record.detail, record.ended_ms = 'finished', outcome, detail, now
  record.used_prompt, record.used_cached, record.used_output = usage[1], usage[2], usage[3]
  record.next_index = log_length(record)
  local keep_ms = RESUME_MS
  if outcome == 'attempts_exhausted' then
    -- A dead letter keeps its job, which a replay needs, and its log for the same time.
    record.state, keep_ms = 'dead', DEAD_MS
    local letter = redis.call('XADD', key('dead'), 'MAXLEN', '~', DEAD_MAX, '*', 'ref', record.ref, 'pool', record.pool,
      'outcome', outcome, 'attempts', record.attempts, 'detail', detail, 'worker', record.worker)
    redis.call('HSET', request, 'letter', letter)
  else
    redis.call('HDEL', request, 'job')
  end
  redis.call('HSET', request, 'state', record.state, 'outcome', outcome, 'detail', detail, 'charge', 0,
    'ended_ms', string.format('%d', now), 'next_index', record.next_index,
    'used_prompt', usage[1], 'used_cached', usage[2], 'used_output', usage[3])
  redis.call('PEXPIRE', request, keep_ms)
  redis.call('PEXPIRE', log, keep_ms)
  redis.call('PEXPIRE', key('story', record.ref), keep_ms)

  local event = {'end', record.ref}
  for i, value in ipairs(ending_of(record)) do
    event[#event + 1] = i
    event[#event + 1] = value
  end
  tell_owners(record.owners, unpack(event))
end
