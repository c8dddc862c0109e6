-- Shows a request and its story.
--
-- KEYS 1 request  2 story
-- ARGV 1 ref
-- Result {now in ms, the request (lib/view.lua), {transition (lib/story.lua), ...}}; nil if there is no such request
--
-- Keeps: nothing is written.
-- use: clock view

local view = view_of(ARGV[1])
if not view then return false end
return {string.format('%d', now_ms()), view, redis.call('LRANGE', KEYS[2], 0, -1)}
