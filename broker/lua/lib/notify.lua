local CONTROL_MAX = 1000
local CONTROL_MS = 60000

-- Adds one entry to the inbox of every router that follows the request. An inbox that has expired belonged to a dead
-- router and is not made again. Ids are 0-1, 0-2, 0-3, ...: a reader sees from them that nothing is missing.
local function tell_owners(owners, ...)
  for router in string.gmatch(owners, '%S+') do
    redis.call('XADD', key('inbox', router), 'NOMKSTREAM', 'MAXLEN', '~', INBOX_MAX, '0-*', ...)
  end
end

-- Tells the worker that holds a running request that it holds it no longer.
local function tell_worker(record)
  local control = key('control', record.worker)
  redis.call('RPUSH', control, string.format('%d %s', record.epoch, record.ref))
  redis.call('LTRIM', control, -CONTROL_MAX, -1)
  redis.call('PEXPIRE', control, CONTROL_MS)
end
