-- use: calendar
local ACCOUNT_MS = 40 * DAY_MS
local MINUTE_MS = 60000
local ALL = ':'

-- Every request is counted for its tenant, in the tenant's hash, and for as many further accounts as it was submitted
-- with: one of a key, one of a model, one of both. They are kept with the request in `book`:
-- '<key>/<task> <price of a prompt token> <cached one> <output one> <the same in FP8, three> <account> <account> ...',
-- where an account is '<key>:<model>', the tenant's own ':' first, with a '+' before it if the request has taken its tokens
-- from the account's bucket.

local function account_hash(tenant, account)
  if account == ALL then return key('tenant', tenant) end
  return key('quota', tenant, string.match(account, '^([^:]*):(.*)$'))
end

-- What the request's book says, read once for each record.
local function book_of(record)
  if record.terms then return record.terms end
  local text = record.book or ''
  local name, task, prompt, cached, output, prompt8, cached8, output8, list =
    string.match(text, '^([^/]*)/(%S*) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)(.*)$')
  local terms = {
    name = name or '', task = task or '', accounts = {}, took = {},
    price = {tonumber(prompt or 0), tonumber(cached or 0), tonumber(output or 0)},
    fp8_price = {tonumber(prompt8 or 0), tonumber(cached8 or 0), tonumber(output8 or 0)},
  }
  for took, account in string.gmatch(list or ALL, '(%+?)([^%s+]+)') do
    local hash = account_hash(record.tenant, account)
    terms.accounts[#terms.accounts + 1] = hash
    terms.took[hash] = took == '+'
  end
  record.terms = terms
  return terms
end

-- Adds to a counter of all accounts of a request.
local function count(record, field, amount)
  -- '%d' because Lua's minus of 0 is '-0', and large numbers are written as floats: no integers to the server.
  for _, hash in ipairs(book_of(record).accounts) do redis.call('HINCRBY', hash, field, string.format('%d', amount)) end
end

-- In nanos of the currency, by one of the two prices.
local function cost_of(price, prompt, cached, output)
  return math.max(0, prompt - cached) * price[1] + math.min(prompt, cached) * price[2] + output * price[3]
end

-- Sets aside what a request may use at most, until `settle`.
local function reserve(record)
  local cost = cost_of(book_of(record).price, record.prompt_tokens, 0, record.output_tokens)
  count(record, 'reserved', record.prompt_tokens + record.output_tokens)
  if cost > 0 then count(record, 'reserved_cost', cost) end
  for i = 2, #record.terms.accounts do redis.call('PEXPIRE', record.terms.accounts[i], ACCOUNT_MS) end
end

-- Adds to what an account has spent in a period. Periods only go forward: a clock that steps back, as after a failover, must
-- not make the spent forgotten.
local function spend(hash, period, number, cost)
  if number > tonumber(redis.call('HGET', hash, period) or -1) then
    redis.call('HSET', hash, period, string.format('%d', number), period .. '_spent', string.format('%d', cost))
  else
    redis.call('HINCRBY', hash, period .. '_spent', string.format('%d', cost))
  end
end

-- Puts what a request really used in place of what it reserved.
local function settle(record, used_tokens, cost, now)
  local terms, reserved = book_of(record), record.prompt_tokens + record.output_tokens
  local reserved_cost = cost_of(terms.price, record.prompt_tokens, 0, record.output_tokens)
  count(record, 'reserved', -reserved)
  if reserved_cost > 0 then count(record, 'reserved_cost', -reserved_cost) end
  local day = math.floor(now / DAY_MS)
  for _, hash in ipairs(terms.accounts) do
    if terms.took[hash] and used_tokens ~= reserved then
      redis.call('HINCRBY', hash, 'tokens_level', string.format('%d', (used_tokens - reserved) * MINUTE_MS))
    end
    if cost > 0 then
      spend(hash, 'day', day, cost)
      spend(hash, 'month', month_of(day), cost)
    end
  end
end
