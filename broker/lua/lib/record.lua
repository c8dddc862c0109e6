-- A request's hash as a table. Absent texts are '', absent numbers 0. The job is not read: it may be large.
local TEXTS = {'state', 'tenant', 'pool', 'owners', 'worker', 'profile', 'outcome', 'detail'}
local NUMBERS = {
  'epoch', 'attempts', 'deadline_ms', 'prompt_tokens', 'output_tokens', 'weight', 'score', 'migratable', 'charge',
  'submitted_ms', 'claimed_ms', 'first_chunk_ms', 'ended_ms', 'ended_by', 'next_index',
  'engine_prompt', 'engine_cached', 'logged_tokens', 'used_prompt', 'used_cached', 'used_output',
}
local FIELDS = {}
for _, name in ipairs(TEXTS) do FIELDS[#FIELDS + 1] = name end
for _, name in ipairs(NUMBERS) do FIELDS[#FIELDS + 1] = name end

-- ref: '<tenant>/<request id>'. Returns nil when there is no such request.
local function load(ref)
  local values = redis.call('HMGET', key('request', ref), unpack(FIELDS))
  if not values[1] then return nil end
  local record = {ref = ref}
  for i, name in ipairs(FIELDS) do
    if i <= #TEXTS then
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
