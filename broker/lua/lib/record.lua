-- A request's hash as a table. Absent texts are '', absent numbers 0. The job is not read: it may be large.
local TEXTS = {
  state = true, tenant = true, pool = true, owners = true, worker = true, profile = true, outcome = true, detail = true,
  failed_by = true, book = true,
}
local FIELDS = {
  'state', 'tenant', 'pool', 'owners', 'worker', 'profile', 'outcome', 'detail',
  'failed_by', 'book',
  'epoch', 'attempts', 'deadline_ms', 'prompt_tokens', 'output_tokens', 'weight', 'score', 'migratable', 'charge',
  'submitted_ms', 'queued_ms', 'claimed_ms', 'first_chunk_ms', 'ended_ms', 'ended_by', 'next_index', 'first_epoch',
  'failures', 'claimed_length', 'engine_prompt', 'engine_cached', 'logged_tokens', 'used_prompt', 'used_cached', 'used_output',
}
-- What it takes to write a chunk: this is read once for every chunk of every stream.
local WRITING = {
  'state', 'epoch', 'pool', 'owners', 'deadline_ms', 'first_chunk_ms', 'first_epoch', 'engine_prompt',
  'engine_cached', 'logged_tokens',
}

-- ref: '<tenant>/<request id>'; fields: all by default. Returns nil when there is no such request.
local function load(ref, fields)
  fields = fields or FIELDS
  local values = redis.call('HMGET', key('request', ref), unpack(fields))
  if not values[1] then return nil end
  local record = {ref = ref}
  for i, name in ipairs(fields) do
    if TEXTS[name] then
      record[name] = values[i] or ''
    else
      record[name] = tonumber(values[i] or 0)
    end
  end
  return record
end

local function ended(record)
  return record.state == 'finished' or record.state == 'dead'
end

local function log_length(record)
  return redis.call('LLEN', key('log', record.ref))
end
