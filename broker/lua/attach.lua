-- Reads a request from an index on, and lets a router follow it.
--
-- KEYS 1 request  2 log
-- ARGV 1 ref  2 router, '' to read only  3 index
-- Result {decision, length of the log, {chunk, ...}, the ending (lib/ending.lua) or nil}; nil if there is no such
--        request; the length alone if the index is beyond it
--
-- Keeps: no chunk is between what is read here and what comes by the inbox, since both happen at once; owners are few.
-- use: clock record ending story

local OWNERS_MAX = 8

local record = load(ARGV[1])
if not record then return false end
local index, length = tonumber(ARGV[3]), log_length(record)
if index > length then return length end

local done = false
if ended(record) then
  done = ending_of(record)
elseif ARGV[2] ~= '' and not string.find(' ' .. record.owners .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
  local owners = {}
  for router in string.gmatch(record.owners, '%S+') do owners[#owners + 1] = router end
  owners[#owners + 1] = ARGV[2]
  if #owners > OWNERS_MAX then table.remove(owners, 1) end
  redis.call('HSET', KEYS[1], 'owners', table.concat(owners, ' '))
  note(record, now_ms(), 'attach', ARGV[2], 0)
end
return {redis.call('HGET', KEYS[1], 'decision'), length, redis.call('LRANGE', KEYS[2], index, -1), done}
