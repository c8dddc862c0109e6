-- use: rate

-- In how many ms a new request's turn would come, at the rate that was measured; 0 when that is not known.
--
-- Before it go its tenant's own requests of the same class that are at least as urgent, and of each other tenant's as
-- many tokens as fairness gives to it meanwhile; at most all that waits. Of the other tenants count those whose virtual
-- time is below the one at which the tenant's own work is half served: those beyond have had their share already. All
-- else is left out, so that the turn comes later rather than earlier: batch work that passes by, and whoever comes
-- meanwhile. Before batch work goes all urgent work that waits, but every BATCH_TURN-th claim.
local function turn_in(record, now)
  local class, pool, tenant = class_of(record), key('pool', record.pool), key('tenant', record.tenant)
  local state = redis.call('HMGET', pool, 'rate', 'used_rate', 'rate_ms', class.tokens, class.weights, URGENT.tokens)
  local rate, used_rate = fresh_rate(state[1], state[3], now), fresh_rate(state[2], state[3], now)
  if not rate or not used_rate then return 0 end
  local own = 0
  for _, priority in ipairs(class.priorities) do
    if priority <= priority_of(record) then
      own = own + tonumber(redis.call('HGET', tenant, tokens_field(priority, record.pool)) or 0)
    end
  end
  -- As they will be used.
  local share = used_share(class, record.pool, record.tenant)
  own = own * share
  local turn = 0
  if own > 0 then
    local mine = redis.call('HMGET', tenant, class.time .. record.pool, class.weight .. record.pool)
    local set, weight = key(class.set, record.pool), tonumber(mine[2] or 1e6) / 1e6
    local half = string.format('%.17g', tonumber(mine[1] or 0) + own / weight / 2)
    local others, all = redis.call('ZCOUNT', set, '-inf', half) - 1, redis.call('ZCARD', set) - 1
    local others_weight = all > 0 and (tonumber(state[5] or 0) / 1e6 - weight) * others / all or 0
    turn = math.min(tonumber(state[4] or 0) / rate, own * (1 + others_weight / weight) / used_rate)
  end
  if class == BATCH then
    local itself = (record.prompt_tokens + record.output_tokens) * share / used_rate
    turn = math.min(turn + tonumber(state[6] or 0) / rate, (turn + itself) * BATCH_TURN)
  end
  return math.floor(turn * 1000 + 0.5)
end
