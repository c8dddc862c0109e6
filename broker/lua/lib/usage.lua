-- use: accounts
local INTERVALS = {{'minute', 60000, USAGE_MINUTE_MS}, {'hour', 3600000, USAGE_HOUR_MS}, {'day', DAY_MS, USAGE_DAY_MS}}
local METRICS = {'requests', 'failed', 'prompt', 'cached', 'output', 'cost', 'fp8_cost'}

-- Adds what a request used, in the order of METRICS, to the intervals in which it ended. A field is
-- '<key> <pool> <task> <metric>'; what is zero is left out.
local function book_usage(record, amounts, now)
  local terms, fields = book_of(record), {}
  for i, metric in ipairs(METRICS) do
    fields[i] = terms.name .. ' ' .. record.pool .. ' ' .. terms.task .. ' ' .. metric
  end
  for _, interval in ipairs(INTERVALS) do
    local name, length_ms, kept_ms = unpack(interval)
    local bucket = key('usage', record.tenant, name, string.format('%d', math.floor(now / length_ms)))
    local before, after = redis.call('HMGET', bucket, unpack(fields)), {}
    for i, amount in ipairs(amounts) do
      if amount > 0 then after[fields[i]] = tonumber(before[i] or 0) + amount end
    end
    set_numbers(bucket, after)
    if not before[1] then redis.call('PEXPIRE', bucket, kept_ms, 'NX') end  -- its first request
  end
end
