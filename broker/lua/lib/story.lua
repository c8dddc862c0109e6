local STORY_MAX, STORY_HEAD, STORY_TAIL = 64, 16, 32
local STORY_DETAIL_BYTES = 200

-- Takes the middle out of a story that has become too long; what was taken out is counted in its place.
local function shorten(story)
  local middle = redis.call('LRANGE', story, STORY_HEAD, -STORY_TAIL - 1)
  local tail = redis.call('LRANGE', story, -STORY_TAIL, -1)
  local before = string.match(middle[1], '^%d+ dropped %- 0 (%d+) $')
  local dropped = before and #middle - 1 + tonumber(before) or #middle
  local mark = string.format('%s dropped - 0 %d ', string.match(middle[#middle], '^%d+'), dropped)
  redis.call('LTRIM', story, 0, STORY_HEAD - 1)
  redis.call('RPUSH', story, mark, unpack(tail))
end

-- One transition of a request: '<ms> <kind> <worker or router, or -> <epoch> <number> <detail>'. What the number counts
-- follows from the kind (broker/story.py). Nothing in it comes from a prompt or a reply.
local function story_entry(now, kind, who, epoch, number, detail)
  return string.format('%d %s %s %d %d %s', now, kind, who ~= '' and who or '-', epoch, number,
    string.sub(detail, 1, STORY_DETAIL_BYTES))
end

-- Adds a transition. A story that is gone, with its request or by hand, is not begun again: nothing would end it.
local function note(record, now, kind, who, epoch, number, detail)
  local story = key('story', record.ref)
  local length = redis.call('RPUSHX', story, story_entry(now, kind, who, epoch, number or 0, detail or ''))
  if length > STORY_MAX then shorten(story) end
end
