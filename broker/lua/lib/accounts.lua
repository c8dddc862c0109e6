-- use: calendar
local ACCOUNT_MS = 40 * DAY_MS
local MINUTE_MS = 60000
local ALL = ':'

-- Every request is counted for its tenant, in the tenant's hash, and for as many further accounts as it was submitted
-- with: one of a key, one of a model, one of both. They are kept with the request in `book`:
-- '<key>/<task> <price of a prompt token> <cached one> <output one> <the same in FP8, three> <account> <account> ...',
-- where an account is '<key>:<model>', the tenant's own ':' first, with a '+' before it if the request has taken its
-- tokens from the account's bucket.

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

-- Sets whole numbers. '%d' because Lua writes large ones as floats, and minus of 0 as '-0': no integers to the server.
local function set_numbers(hash, fields)
  local pairs_of = {}
  for field, number in pairs(fields) do
    pairs_of[#pairs_of + 1] = field
    pairs_of[#pairs_of + 1] = string.format('%d', number)
  end
  redis.call('HSET', hash, unpack(pairs_of))
end

-- Adds to a counter of all accounts of a request.
local function count(record, field, amount)
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

-- Puts what a request really used in place of what it reserved.
local function settle(record, used_tokens, cost, now)
  local terms, reserved = book_of(record), record.prompt_tokens + record.output_tokens
  local reserved_cost = cost_of(terms.price, record.prompt_tokens, 0, record.output_tokens)
  local day = math.floor(now / DAY_MS)
  local month = month_of(day)
  for _, hash in ipairs(terms.accounts) do
    local held = redis.call('HMGET', hash, 'reserved', 'reserved_cost', 'tokens_level', 'day', 'day_spent', 'month',
      'month_spent')
    for i = 1, 7 do held[i] = tonumber(held[i] or 0) end
    local fields = {reserved = held[1] - reserved, reserved_cost = held[2] - reserved_cost}
    if terms.took[hash] then fields.tokens_level = held[3] + (used_tokens - reserved) * MINUTE_MS end
    if cost > 0 then
      -- Periods only go forward: a clock that steps back, as after a failover, must not make the spent forgotten.
      fields.day, fields.day_spent = math.max(day, held[4]), (day > held[4] and 0 or held[5]) + cost
      fields.month, fields.month_spent = math.max(month, held[6]), (month > held[6] and 0 or held[7]) + cost
    end
    set_numbers(hash, fields)
  end
end
