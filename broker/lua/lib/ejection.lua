-- Whether a worker is sick, from its figures and its peers'. Pure: nothing is read or written.
--
-- A worker is {serves, reason, attempts, failed, rate}: whether it would claim (nobody told it not to); why it is out,
-- '' if it is not; of its latest attempts all, and those that its engine failed; output tokens a second of one stream,
-- 0 where not known. An ejected worker's figures are those since it was ejected, or since its last failure.
local SICK_ATTEMPTS = 5
local WELL_ATTEMPTS = 2
local SICK_SHARE = 0.5
-- How much slower than the median of its peers a sick one is, and by how many seconds a token: less is noise.
local SLOWER, SLOWER_S = 4, 0.01
-- Who is out has to come nearer than it had to be when it was in, or it would come and go.
local WELL_SLOWER = 2

local function failed_share(worker)
  if worker.attempts < SICK_ATTEMPTS then return 0 end
  return worker.failed / worker.attempts
end

-- The least failed share of the peers that are in. Where all fail, on prompts that no worker survives, none is sick.
local function best_share(peers)
  local best = 1
  for _, peer in ipairs(peers) do
    if peer.reason == '' then best = math.min(best, failed_share(peer)) end
  end
  return best
end

-- The median rate of the peers that are in and known; the lower one of two. nil when there is none.
local function median_rate(peers)
  local rates = {}
  for _, peer in ipairs(peers) do
    if peer.reason == '' and peer.rate > 0 then rates[#rates + 1] = peer.rate end
  end
  table.sort(rates)
  return rates[math.ceil(#rates / 2)]
end

local function sickness(worker, peers)
  local share, median = failed_share(worker), median_rate(peers)
  if worker.reason == 'failing' then
    if worker.attempts >= WELL_ATTEMPTS and worker.failed == 0 or best_share(peers) >= SICK_SHARE then return '' end
    return 'failing'
  end
  if worker.reason == 'slow' then
    if median and worker.rate * WELL_SLOWER >= median then return '' end
    return 'slow'
  end
  if share >= SICK_SHARE and best_share(peers) < share / 2 then return 'failing' end
  if median and worker.rate > 0 and worker.rate * SLOWER < median and 1 / worker.rate - 1 / median > SLOWER_S then
    return 'slow'
  end
  return ''
end

-- Why a worker has to be out, '' if it has not. At least half of a pool's serving workers stay in, whatever they do.
local function ejection(worker, peers)
  if not worker.serves then return '' end
  local live, out = 1, 1
  for _, peer in ipairs(peers) do
    if peer.serves then
      live = live + 1
      if peer.reason ~= '' then out = out + 1 end
    end
  end
  if out * 2 > live then return '' end
  return sickness(worker, peers)
end
