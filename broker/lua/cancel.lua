-- Ends a request by its client's wish: always, or only if no router follows it any more.
--
-- KEYS 1 request
-- ARGV 1 ref  2 '' to cancel; else the router that no longer follows the request
-- Result the ending (lib/ending.lua), old or new; '' if others still follow it; nil if there is no such request
--
-- Keeps: a waiting request never starts; a running one is fenced off at once and its worker told; an ended one stays
-- as it ended.
-- use: clock conclude

local record = load(ARGV[1])
if not record then return false end
if ended(record) then return ending_of(record) end
local now = now_ms()
note(record, now, ARGV[2] == '' and 'cancel' or 'abandon', ARGV[2], 0)

if ARGV[2] ~= '' then
  local owners, live = {}, false
  for router in string.gmatch(record.owners, '%S+') do
    if router ~= ARGV[2] then
      owners[#owners + 1] = router
      live = live or redis.call('EXISTS', key('inbox', router)) == 1
    end
  end
  record.owners = table.concat(owners, ' ')
  redis.call('HSET', KEYS[1], 'owners', record.owners)
  -- A router whose inbox has expired is dead: nobody reads there, so its ownership keeps no engine busy.
  if live then return '' end
end

if record.state == 'running' then tell_worker(record) end
conclude(record, 'cancelled', '', now)
return ending_of(record)
