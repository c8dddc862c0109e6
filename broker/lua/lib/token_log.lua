-- use: notify story
local WRITTEN, REPEATED, HOLE, CONFLICT = 'written', 'repeated', 'hole', 'conflict'

-- Puts a chunk at its index and tells the owners. A chunk that is there already with the same bytes was sent again after
-- a lost reply: it is not counted or told twice. Returns what happened and the log's length before.
local function write_chunk(record, index, chunk, tokens, prompt, cached, now)
  local log = key('log', record.ref)
  local length = redis.call('LLEN', log)
  if index > length then return HOLE, length end
  if index < length then
    if redis.call('LINDEX', log, index - length) == chunk then return REPEATED, length end
    return CONFLICT, length
  end
  redis.call('RPUSH', log, chunk)
  record.logged_tokens = record.logged_tokens + tokens
  if record.first_chunk_ms == 0 then record.first_chunk_ms = now end
  if prompt > 0 then record.engine_prompt, record.engine_cached = prompt, cached end
  if record.first_epoch ~= record.epoch then note(record, now, 'first', '', record.epoch, index) end
  redis.call('HSET', key('request', record.ref), 'logged_tokens', record.logged_tokens, 'first_epoch', record.epoch,
    'first_chunk_ms', string.format('%d', record.first_chunk_ms),
    'engine_prompt', record.engine_prompt, 'engine_cached', record.engine_cached)
  tell_owners(record.owners, 'chunk', record.ref, 'i', index, 'c', chunk)
  return WRITTEN, length
end
