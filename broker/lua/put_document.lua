-- Makes a text the next version of a document, if the version that it was made from is still the current one.
--
-- KEYS 1 document: its versions, newest first  2 head of the store  3 changes  4 audit log
-- ARGV 1 name  2 etag of the version that it replaces, '' for none, '*' for any  3 text  4 author  5 note
--      6 id for the store, if it is new  7 how many versions are kept
--      8 action  9 tenant  10 text before, for the audit log: '' for the stored one, else '=' and a text  11 text after
-- Result {'stored', what is known of the version} | {'conflict', what is known of the current one, or ''}
--
-- Keeps: versions count from 1 without a hole; a lost update is refused; the revision grows with every change, so that
-- whoever remembers one sees what changed since; each change is in the audit log once. A repeated put is answered as the
-- first.
-- use: clock audit

local current = redis.call('LINDEX', KEYS[1], 0)
local line, text, old = '', '', {version = 0, etag = '', base = ''}
if current then
  line = string.match(current, '^[^\n]*')
  text = string.sub(current, #line + 2)
  old = cjson.decode(line)
end
if ARGV[2] ~= '*' and ARGV[2] ~= old.etag then
  local repeated = current and old.base == ARGV[2] and old.author == ARGV[4] and text == ARGV[3]
  return {repeated and 'stored' or 'conflict', line}
end

local version = old.version + 1
local etag = string.format('%d-%s', version, string.sub(redis.sha1hex(ARGV[3]), 1, 10))
line = cjson.encode({
  version = version, etag = etag, base = old.etag, author = ARGV[4], note = ARGV[5],
  time_ms = string.format('%d', now_ms()),
})
redis.call('LPUSH', KEYS[1], line .. '\n' .. ARGV[3])
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[7]) - 1)
redis.call('HSETNX', KEYS[2], 'id', ARGV[6])
redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[2], 'revision', 1), ARGV[1])

local function shown(given, stored)
  if given == '' then return stored end
  return string.sub(given, 2)
end
audit(KEYS[4], ARGV[4], ARGV[8], ARGV[1], ARGV[9], shown(ARGV[10], text), shown(ARGV[11], ARGV[3]))
return {'stored', line}
