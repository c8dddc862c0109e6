-- Stores a request and queues it, once for each id, if all its accounts admit it.
--
-- KEYS 1 request
-- ARGV 1 ref  2 tenant  3 pool  4 digest  5 job  6 decision  7 router  8 timeout in ms, 0: none
--      9 prompt tokens  10 output tokens  11 priority  12 weight  13 migratable, 0 or 1
--      14 most waiting requests of all tenants in the pool, '': any number  15 book without accounts (lib/accounts.lua)
--      then for each account, the tenant's own first: '<key>:<model>' and its six bounds in the order of `Limits`,
--      '' for none
-- Result {'accepted' | 'joined' | 'conflict' | 'pool_full', waiting requests of the tenant in the pool}
--        {'over_limit', waiting, index of the account from 0, limit, bound, used, wanted, ms until it may fit or nil}
--        {'too_late', waiting, ms until its turn would come, ms that it is expected to run, 0: not known}
--
-- Keeps: an id names one body for as long as it is known, however often and however many at a time submit it; a request
-- is admitted by all its accounts or leaves no trace; what an account has reserved is the sum over its requests.
-- use: clock limits queue turn story

local BOUNDS = 6
-- Between this number and its double are listed.
local RECENT = 200

local ref, tenant, pool = ARGV[1], ARGV[2], ARGV[3]
local prompt, output, priority = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local waiting = redis.call('ZCARD', key('queue', pool, tenant))

local digest = redis.call('HGET', KEYS[1], 'digest')
if digest then return {digest == ARGV[4] and 'joined' or 'conflict', waiting} end

local now = now_ms()
local record = {
  ref = ref, tenant = tenant, pool = pool, prompt_tokens = prompt, output_tokens = output, weight = tonumber(ARGV[12]),
  score = priority * 1e13, book = ARGV[15],
}
local cost = cost_of(book_of(record).price, prompt, 0, output)

-- All checks before all reservations.
local book, filled = {ARGV[15]}, {}
for i = 16, #ARGV, BOUNDS + 1 do
  local bounds, bounded = {}, false
  for limit = 1, BOUNDS do
    bounds[limit] = tonumber(ARGV[i + limit])
    bounded = bounded or bounds[limit] ~= nil
  end
  if bounded then
    local hash = account_hash(tenant, ARGV[i])
    local state = look(hash, bounds, now)
    local refused = refusal(state, bounds, prompt + output, cost, now)
    if refused then return {'over_limit', waiting, (i - 16) / (BOUNDS + 1), unpack(refused)} end
    if bounds[1] then filled[#filled + 1] = {hash, 'requests', state.requests + MINUTE_MS} end
    if bounds[2] then filled[#filled + 1] = {hash, 'tokens', state.tokens + (prompt + output) * MINUTE_MS} end
  end
  book[#book + 1] = (bounds[2] and '+' or '') .. ARGV[i]
end
if ARGV[14] ~= '' and waiting_in(pool) >= tonumber(ARGV[14]) then
  return {'pool_full', waiting}
end
local timeout = tonumber(ARGV[8])
if timeout > 0 then
  -- Who would have to wait must be done in time, too; where nobody waits, all is tried.
  local turn = turn_in(record, now)
  local run = turn > 0 and run_of(record, now) or 0
  if turn > timeout or run > 0 and (turn + run) * SLACK > timeout then return {'too_late', waiting, turn, run} end
end

for _, level in ipairs(filled) do
  redis.call('HSET', level[1], level[2] .. '_level', string.format('%d', level[3]),
    level[2] .. '_ms', string.format('%d', now))
end
record.book, record.terms = table.concat(book, ' '), nil
record.score = record.score + redis.call('HINCRBY', key('pool', pool), 'arrivals', 1)
redis.call('HSET', KEYS[1], 'state', 'waiting', 'tenant', tenant, 'pool', pool, 'digest', ARGV[4], 'job', ARGV[5],
  'decision', ARGV[6], 'owners', ARGV[7], 'deadline_ms', string.format('%d', timeout > 0 and now + timeout or 0),
  'prompt_tokens', prompt, 'output_tokens', output, 'priority', priority, 'weight', ARGV[12], 'migratable', ARGV[13],
  'score', string.format('%d', record.score), 'epoch', 0, 'attempts', 0, 'submitted_ms', string.format('%d', now),
  'queued_ms', string.format('%d', now), 'book', record.book)
reserve(record)
enter_queue(record, now)
redis.call('RPUSH', key('story', ref), story_entry(now, 'submit', ARGV[7], 0, 0, ''))
if redis.call('LPUSH', key('recent'), ref) >= 2 * RECENT then redis.call('LTRIM', key('recent'), 0, RECENT - 1) end
return {'accepted', waiting + 1}
