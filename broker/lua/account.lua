-- Shows an account as of now.
--
-- KEYS 1 hash of the account
-- ARGV 1 requests per minute, '': unbounded  2 tokens per minute, '': unbounded
-- Result {requests and tokens that have not leaked from the buckets yet, both in 1/60000; waiting, running, reserved tokens,
--        reserved cost, spent in this day, in this month}
--
-- Keeps: nothing is written.
-- use: clock limits

local state = look(KEYS[1], {tonumber(ARGV[1]), tonumber(ARGV[2])}, now_ms())
return {
  state.requests, state.tokens, state.waiting, state.running, state.reserved, state.reserved_cost, state.day_spent,
  state.month_spent,
}
