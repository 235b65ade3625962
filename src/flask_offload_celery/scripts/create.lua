-- Record jobs, all at once. A known job is not changed, so that the call may be repeated when its
-- answer was lost.
-- ARGV: now, patience, outbox id or '', how many ids follow, ids of earlier jobs whose messages have
-- been sent, then JSON of each job. The number `seq` of an outbox is never used twice: a job whose
-- number is not above the highest one seen has been recorded before. A job with `note` comes from the
-- outbox of a transaction: its id is noted for so many seconds, whatever becomes of the job.
local now, patience, outbox = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local first = 5 + tonumber(ARGV[4])
for i = 5, first - 1 do
  call('ZREM', P .. 'unsent', ARGV[i])
end

-- A job of an outbox: it was reported as accepted before.
local function create_relayed(job, place)
  local result = create(job, now, patience, place)
  if result[1] == 'duplicate' then
    -- so its id must be known
    job.unique = ''
    create(job, now, patience, place)
    unqueue(job.id, job.queue, job.lane)
    move(job.id, job.queue, 'READY', 'CANCELLED')
    call('HSET', job_key(job.id), 'finished_at', now, 'duplicate_of', result[2])
    call('ZADD', P .. 'ends', now + job.keep, job.id)
  else
    -- a sender whose call was late must not withdraw it
    call('HSET', job_key(job.id), 'relayed', 1)
  end
  return result
end

local seen = outbox ~= '' and tonumber(call('GET', P .. 'outbox:' .. outbox) or 0)
local results = {}
for i = first, #ARGV do
  local job = cjson.decode(ARGV[i])
  if job.note > 0 then
    local is_new = call('SET', P .. 'relayed:' .. job.id, 1, 'NX', 'EX', job.note)
    results[#results + 1] = is_new and create_relayed(job, i) or {'known'}
  elseif not seen then
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
