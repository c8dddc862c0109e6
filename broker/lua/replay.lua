-- Queues a dead letter again, or forgets it.
--
-- KEYS 1 request
-- ARGV 1 ref  2 'replay' | 'purge'
-- Result 1 if it was a dead letter, 0 if not
--
-- Keeps: a replay is a new acceptance by an operator: the attempts start from 0, the deadline is gone, nobody follows
-- it until a router attaches, and it goes on from the log as it stands. It reserves without a look at any bound, and
-- takes nothing from the buckets, which are for what clients send.
-- use: clock record queue story

local now = now_ms()
local record = load(ARGV[1])
if not record or record.state ~= 'dead' then return 0 end

redis.call('XDEL', key('dead'), redis.call('HGET', KEYS[1], 'letter'))
if ARGV[2] == 'purge' then
  redis.call('DEL', KEYS[1], key('log', record.ref), key('story', record.ref))
  return 1
end
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', key('log', record.ref))
redis.call('PERSIST', key('story', record.ref))
redis.call('HDEL', KEYS[1], 'letter', 'outcome', 'detail', 'ended_ms', 'failed_by')
record.book = string.gsub(record.book, '%+', '')
redis.call('HSET', KEYS[1], 'state', 'waiting', 'attempts', 0, 'failures', 0, 'deadline_ms', 0, 'owners', '', 'book', record.book,
  'queued_ms', string.format('%d', now))
reserve(record)
enter_queue(record, now)
note(record, now, 'replay', '', 0)
return 1
