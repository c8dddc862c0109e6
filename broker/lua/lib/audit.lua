local AUDIT_MAX = 10000
local AUDIT_BYTES = 4096

-- The beginning of a text, cut between two characters of UTF-8.
local function cut(text)
  if #text <= AUDIT_BYTES then return text end
  local last = AUDIT_BYTES
  for _ = 1, 3 do
    local next_byte = string.byte(text, last + 1)
    if next_byte < 0x80 or next_byte > 0xBF then break end
    last = last - 1
  end
  return string.sub(text, 1, last)
end

-- Adds one change to the audit log. Its id tells the time, and orders it.
local function audit(log, actor, action, resource, tenant, before, after)
  redis.call('XADD', log, 'MAXLEN', '~', AUDIT_MAX, '*', 'actor', actor, 'action', action, 'resource', resource,
    'tenant', tenant, 'before', cut(before), 'after', cut(after))
end
