-- use: accounts
local INTERVALS = {{'minute', 60000, USAGE_MINUTE_MS}, {'hour', 3600000, USAGE_HOUR_MS}, {'day', DAY_MS, USAGE_DAY_MS}}
local METRICS = {'requests', 'failed', 'prompt', 'cached', 'output', 'cost', 'fp8_cost'}

-- Adds what a request used, in the order of METRICS, to the intervals in which it ended. A field is
-- '<key> <pool> <task> <metric>'; what is zero is left out.
local function book_usage(record, amounts, now)
  local terms = book_of(record)
  local row = terms.name .. ' ' .. record.pool .. ' ' .. terms.task .. ' '
  for _, interval in ipairs(INTERVALS) do
    local name, length_ms, kept_ms = unpack(interval)
    local bucket = key('usage', record.tenant, name, string.format('%d', math.floor(now / length_ms)))
    for i, metric in ipairs(METRICS) do
      if amounts[i] > 0 then redis.call('HINCRBY', bucket, row .. metric, string.format('%d', amounts[i])) end
    end
    redis.call('PEXPIRE', bucket, kept_ms, 'NX')
  end
end
