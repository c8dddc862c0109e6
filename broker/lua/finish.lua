-- Ends a request by its worker's word, with its last chunk if there is one.
--
-- KEYS 1 request  2 log  3 lease set of the pool
-- ARGV 1 ref  2 epoch  3 index  4 '1' if there is a chunk, else '0'  5 chunk  6 tokens in it
--      7 outcome  8 detail  9 prompt tokens  10 of them cached  11 output tokens
-- Result {1 yes | 2 ended | 3 fenced | 'hole' | 'conflict', length of the log}
--
-- Keeps: a request ends exactly once; the same finish sent again after a lost reply is answered yes.
-- use: clock conclude hold token_log

local now, epoch, index = now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3])
local record = load(ARGV[1])
if record and record.ended_by == epoch then return {YES, record.next_index} end
local held = hold(record, epoch, now)
if held ~= YES then return {held, 0} end

local usage = {tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])}
local length = log_length(record)
if ARGV[4] == '1' then
  -- A last chunk that is there already must be the last one there.
  if index < length - 1 then return {CONFLICT, length} end
  local done
  done, length = write_chunk(record, index, ARGV[5], tonumber(ARGV[6]), usage[1], usage[2], now)
  if done == HOLE or done == CONFLICT then return {done, length} end
elseif index ~= length then
  return {index > length and HOLE or CONFLICT, length}
end
redis.call('HSET', KEYS[1], 'ended_by', epoch)
conclude(record, ARGV[7], ARGV[8], now, usage)
return {YES, record.next_index}
