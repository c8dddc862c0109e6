-- Lists the documents that changed since a revision.
--
-- KEYS 1 head of the store  2 changes
-- ARGV 1 id of the store that the revision is of  2 revision
-- Result {id, revision now, {name, ...}}; all names if the store is another one, as after a loss of data
--
-- Keeps: nothing is written.

local head = redis.call('HMGET', KEYS[1], 'id', 'revision')
local id, revision = head[1] or '', tonumber(head[2] or 0)
local since = tonumber(ARGV[2])
if id ~= ARGV[1] then since = 0 end
if revision <= since then return {id, revision, {}} end
return {id, revision, redis.call('ZRANGE', KEYS[2], string.format('(%d', since), '+inf', 'BYSCORE')}
