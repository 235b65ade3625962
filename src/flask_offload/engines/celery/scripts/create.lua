-- Accept jobs, all at once. A job that is known already is left as it is, so that whoever does not
-- know whether the first call arrived may call again.
-- ARGV: now, patience, outbox id or '', then JSON of each job. Of an outbox, `seq` numbers the jobs
-- for ever: what is not above the highest number seen has been accepted before.
local now, patience, outbox = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local results = {}
for i = 4, #ARGV do
  local job = cjson.decode(ARGV[i])
  local seen = outbox ~= '' and tonumber(call('GET', P .. 'outbox:' .. outbox) or 0)
  if seen and job.seq <= seen then
    results[#results + 1] = {'known'}
  else
    local result = create(job, now, patience, i)
    if seen then
      call('SET', P .. 'outbox:' .. outbox, job.seq)
      if result[1] == 'duplicate' then
        -- its sender was told that it is accepted, so there has to be an answer about it
        job.unique = ''
        create(job, now, patience, i)
        unqueue(job.id, job.queue, job.lane)
        move(job.id, job.queue, 'READY', 'CANCELLED')
        call('HSET', job_key(job.id), 'finished_at', now, 'duplicate_of', result[2])
        call('ZADD', P .. 'ends', now + job.keep, job.id)
      end
    end
    results[#results + 1] = result
  end
end
return results
