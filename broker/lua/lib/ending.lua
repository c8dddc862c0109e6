-- use: record

-- What the service did not bring to an end costs nothing.
local FAILED = {not_migratable = true, attempts_exhausted = true}

-- The ending of an ended request, in the order in which the Python side reads it. 0 stands for 'it never came to that'.
local function ending_of(record)
  return {
    record.outcome, record.detail,
    string.format('%d', record.used_prompt), string.format('%d', record.used_cached),
    string.format('%d', record.used_output), string.format('%d', record.attempts), record.profile,
    string.format('%d', record.submitted_ms), string.format('%d', record.claimed_ms),
    string.format('%d', record.first_chunk_ms), string.format('%d', record.ended_ms),
    string.format('%d', record.next_index),
  }
end
