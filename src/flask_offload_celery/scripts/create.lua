-- Accept jobs, all at once. A job that is known already is left as it is, so that whoever does not
-- know whether the first call arrived may call again.
-- ARGV: now, patience, outbox id or '', then JSON of each job. Of an outbox, `seq` numbers the jobs
-- for ever: what is not above the highest number seen has been accepted before.
local now, patience, outbox = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

-- A job of an outbox, whose sender was told long ago that it is accepted.
local function create_relayed(job, place)
  local result = create(job, now, patience, place)
  if result[1] == 'duplicate' then
    -- so there has to be an answer about it
    job.unique = ''
    create(job, now, patience, place)
    unqueue(job.id, job.queue, job.lane)
    move(job.id, job.queue, 'READY', 'CANCELLED')
    call('HSET', job_key(job.id), 'finished_at', now, 'duplicate_of', result[2])
    call('ZADD', P .. 'ends', now + job.keep, job.id)
  else
    -- a sender that has hung until now must not take it back
    call('HSET', job_key(job.id), 'relayed', 1)
  end
  return result
end

local seen = outbox ~= '' and tonumber(call('GET', P .. 'outbox:' .. outbox) or 0)
local results = {}
for i = 4, #ARGV do
  local job = cjson.decode(ARGV[i])
  if not seen then
    results[#results + 1] = create(job, now, patience, i)
  elseif job.seq <= seen then
    results[#results + 1] = {'known'}
  else
    results[#results + 1] = create_relayed(job, i)
    seen = job.seq
  end
end
if seen then
  call('SET', P .. 'outbox:' .. outbox, seen)
end
return results
