-- Lists the requests that were admitted last and are still known.
--
-- KEYS 1 recent requests
-- ARGV 1 at most so many  2 tenant, '': of all
-- Result {now in ms, {the request (lib/view.lua), ...}}, newest first
--
-- Keeps: nothing is written; the work is bounded by the list, which is short.
-- use: clock view

local wanted, prefix = tonumber(ARGV[1]), ARGV[2] ~= '' and ARGV[2] .. '/' or ''
local views, seen = {}, {}
for _, ref in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if #views >= wanted then break end
  -- An id that was free again stands there twice.
  if not seen[ref] and string.sub(ref, 1, #prefix) == prefix then
    views[#views + 1] = view_of(ref)
    seen[ref] = true
  end
end
return {string.format('%d', now_ms()), views}
