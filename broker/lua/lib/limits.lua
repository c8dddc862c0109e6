-- use: accounts

-- A bucket's level is what was taken and has not leaked yet, in 1/60000 of a request or token: with a bound of n a minute n
-- of these leak in a millisecond, so that all numbers are whole.
local function leaked(level, since, bound, now)
  if not bound then return 0 end
  return math.max(0, tonumber(level or 0) - math.max(0, now - tonumber(since or 0)) * bound)
end

-- An account as of now; `bounds` are requests and tokens per minute, nil: unbounded.
local function look(hash, bounds, now)
  local stored = redis.call('HMGET', hash, 'waiting', 'running', 'reserved', 'reserved_cost', 'requests_level',
    'requests_ms', 'tokens_level', 'tokens_ms', 'day', 'day_spent', 'month', 'month_spent')
  local day = math.floor(now / DAY_MS)
  local function spent(number, stored_number, amount)
    return number <= tonumber(stored_number or -1) and tonumber(amount or 0) or 0
  end
  return {
    waiting = tonumber(stored[1] or 0), running = tonumber(stored[2] or 0),
    reserved = tonumber(stored[3] or 0), reserved_cost = tonumber(stored[4] or 0),
    requests = leaked(stored[5], stored[6], bounds[1], now), tokens = leaked(stored[7], stored[8], bounds[2], now),
    day_spent = spent(day, stored[9], stored[10]), month_spent = spent(month_of(day), stored[11], stored[12]),
  }
end

-- Why an account does not admit a request: {limit, bound, used, wanted, ms until it may fit or false}; nil if it does.
-- `bounds` are those of `Limits`, in its order; nil: unbounded.
local function refusal(state, bounds, tokens, cost, now)
  local function bucket(limit, bound, level, wanted)
    local over = level + (wanted - (bound or 0)) * MINUTE_MS
    if not bound or over <= 0 then return nil end
    return {limit, bound, math.ceil(level / MINUTE_MS), wanted, wanted <= bound and math.ceil(over / bound)}
  end
  local function number(limit, bound, used)
    if not bound or used + 1 <= bound then return nil end
    return {limit, bound, used, 1, false}
  end
  local function budget(limit, bound, spent, period_ends)
    local used = spent + state.reserved_cost
    if not bound or used + cost <= bound then return nil end
    return {limit, bound, used, cost, cost <= bound and period_ends - now}
  end
  local day = math.floor(now / DAY_MS)
  return bucket('requests_per_minute', bounds[1], state.requests, 1)
    or bucket('tokens_per_minute', bounds[2], state.tokens, tokens)
    or number('concurrent_requests', bounds[3], state.waiting + state.running)
    or number('queued_requests', bounds[4], state.waiting)
    or budget('day_budget', bounds[5], state.day_spent, (day + 1) * DAY_MS)
    or budget('month_budget', bounds[6], state.month_spent, first_day_of(month_of(day) + 1) * DAY_MS)
end
