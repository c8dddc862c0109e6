-- Gives a worker up to n requests of a pool, each with a lease and a new epoch.
--
-- KEYS 1 pool
-- ARGV 1 pool  2 worker  3 profile  4 n  5 for how many ms what failed at this worker is left to others
-- Result {{ref, epoch, attempt, remaining ms or -1, job, {chunk, ...}, ms it waited this time, failures in a row}, ...}
--
-- Keeps: of the tenants the one with the least virtual time is served first, and of its requests the most urgent; batch
-- work goes after all other but for every BATCH_TURN-th claim, where it goes first; a request whose deadline has passed
-- is ended, never given out, and so is one that cannot be done in time while others wait; what is left to other workers
-- keeps its place, and holds nothing up; a new lease has a higher epoch than any before.
-- use: clock record queue rate story
-- rarely: conclude

-- Requests that have outlived their deadline are ended on the way, and others passed over; the bound keeps one call
-- short.
local PASSED_MAX = 100

local UNREACHABLE = 'it could not have been done in time'

local pool, worker, profile, wanted, avoid_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
local state = redis.call('HMGET', KEYS[1], 'claims', URGENT.clock, BATCH.clock)
local served = tonumber(state[1] or 0)
local clocks = {[URGENT] = tonumber(state[2] or 0), [BATCH] = tonumber(state[3] or 0)}
local claims, passed = {}, 0
-- How many of a tenant's requests, at the front of its queue, are left to others, and how many tenants, at the front of
-- a fair set, have no more than these: nobody is put before them while this runs.
local left, without = {}, {[URGENT] = 0, [BATCH] = 0}

local function head_of(class)
  return redis.call('ZRANGE', key(class.set, pool), without[class], without[class], 'WITHSCORES')
end

local function failed_here_lately(record)
  return record.failed_by == worker and now - record.queued_ms < avoid_ms
end

-- Whether a request would meet its deadline before its end, while another one waits that may use the slot better. One
-- that has been worked on goes on: its client has begun to read.
local function cannot_finish(record)
  if record.deadline_ms == 0 or record.logged_tokens > 0 or waiting_in(pool) < 2 then return false end
  return now + run_of(record, now) * SLACK > record.deadline_ms
end

while #claims < wanted and passed < PASSED_MAX do
  local class, other = URGENT, BATCH
  if (served + 1) % BATCH_TURN == 0 then class, other = BATCH, URGENT end
  local head = head_of(class)
  if not head[1] then
    class = other
    head = head_of(class)
  end
  if not head[1] then break end
  local tenant, time = head[1], tonumber(head[2])
  local queue = class.set .. ' ' .. tenant
  local skip = left[queue] or 0
  local ref, score = first_of(class, pool, tenant, skip)
  local record = ref and load(ref)

  if not ref and skip > 0 then
    without[class] = without[class] + 1
  elseif not ref then
    -- The queue was deleted by hand, or evicted: one loss must not stop the pool.
    leave({pool = pool, tenant = tenant, score = class == BATCH and tonumber(BATCH_SCORE) or 0})
    passed = passed + 1
  elseif not record then
    -- The same for the request alone; what it had reserved is not known any more.
    leave_queue({ref = ref, pool = pool, tenant = tenant, score = score, prompt_tokens = 0, output_tokens = 0})
    passed = passed + 1
  elseif record.deadline_ms > 0 and now >= record.deadline_ms then
    conclude(record, 'deadline', '', now)
    passed = passed + 1
  elseif failed_here_lately(record) then
    left[queue] = skip + 1
    passed = passed + 1
  elseif cannot_finish(record) then
    conclude(record, 'deadline', UNREACHABLE, now)
    passed = passed + 1
  else
    served = served + 1
    if time > clocks[class] then
      clocks[class] = time
      redis.call('HSET', KEYS[1], class.clock, head[2])
    end
    leave_queue(record)
    local charge = charge_of(record)
    advance(record, charge)
    count(record, 'running', 1)
    redis.call('ZADD', key('lease', pool), string.format('%d', now + LEASE_MS), record.ref)
    if record.claimed_ms == 0 then record.claimed_ms = now end
    redis.call('HSET', key('request', record.ref), 'state', 'running', 'epoch', record.epoch + 1,
      'attempts', record.attempts + 1, 'worker', worker, 'profile', profile,
      'claimed_ms', string.format('%d', record.claimed_ms), 'charge', string.format('%.17g', charge),
      'claimed_length', log_length(record))
    local remaining = -1
    if record.deadline_ms > 0 then remaining = record.deadline_ms - now end
    note(record, now, 'claim', worker, record.epoch + 1, record.attempts + 1)
    claims[#claims + 1] = {
      record.ref, record.epoch + 1, record.attempts + 1, remaining,
      redis.call('HGET', key('request', record.ref), 'job'),
      redis.call('LRANGE', key('log', record.ref), 0, -1), math.max(0, now - record.queued_ms), record.failures,
    }
  end
end

if #claims > 0 then redis.call('HSET', KEYS[1], 'claims', served) end
if waiting_in(pool) > 0 then
  ring(pool)
else
  redis.call('DEL', key('bell', pool))
end
return claims
