-- use: rate

-- In how many ms a new request's turn would come, at the rate that was measured; 0 when that is not known.
--
-- Before it go its tenant's own requests of the same class that are at least as urgent, and as many tokens of each other
-- tenant as fairness gives to it meanwhile; at most all that waits. Of the other tenants count those whose virtual time is
-- below the one that the tenant's own work will have half served: those beyond have had their share already. All else is
-- left out, so the turn comes later rather than earlier: batch work that passes by, urgent work before batch work, and
-- whoever comes meanwhile.
local function turn_in(record, now)
  local class, pool, tenant = class_of(record), key('pool', record.pool), key('tenant', record.tenant)
  local state = redis.call('HMGET', pool, 'rate', 'rate_ms', class.tokens, class.weights)
  local rate = fresh_rate(state[1], state[2], now)
  if not rate then return 0 end
  local own = 0
  for _, priority in ipairs(class.priorities) do
    if priority <= priority_of(record) then
      own = own + tonumber(redis.call('HGET', tenant, tokens_field(priority, record.pool)) or 0)
    end
  end
  if own == 0 then return 0 end
  local mine = redis.call('HMGET', tenant, class.time .. record.pool, class.weight .. record.pool)
  local set, weight = key(class.set, record.pool), tonumber(mine[2]) / 1e6
  local half = string.format('%.17g', tonumber(mine[1]) + own / weight / 2)
  local others, all = redis.call('ZCOUNT', set, '-inf', half) - 1, redis.call('ZCARD', set) - 1
  local others_weight = all > 0 and (tonumber(state[4]) / 1e6 - weight) * others / all or 0
  local ahead = math.min(tonumber(state[3]), own * (1 + others_weight / weight))
  return math.floor(ahead * 1000 / rate)
end
