-- Record how an attempt ended, if it is still this worker's. ARGV: id, attempt, worker, now,
-- status that follows, started_at, finished_at, failures, crashes, run_after, patience, expires_at,
-- attempt as JSON or '', result or '', seconds that the result is kept or '', status that follows if
-- the job has been asked to stop.
-- The status that followed, or 'late'.
local id, attempt, worker, now, to = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local job = fields(id, 'status', 'attempt', 'worker', 'queue', 'lane', 'cancel')
if job[1] ~= 'RUNNING' or job[2] ~= attempt or job[3] ~= worker then
  return 'late'
end
local queue, lane, cancel = job[4], job[5], tonumber(job[6])
if cancel > 0 then
  to = ARGV[16]
end
call('SREM', P .. 'running:' .. worker, id)
call('SREM', P .. 'stopping:' .. worker, id)
move(id, queue, 'RUNNING', to)
call('HSET', job_key(id), 'started_at', ARGV[6], 'failures', ARGV[8], 'crashes', ARGV[9])
if ARGV[13] ~= '' then
  call('RPUSH', P .. 'attempts:' .. id, ARGV[13])
end
if to == 'READY' then
  local run_after = tonumber(ARGV[10])
  call('HSET', job_key(id), 'run_after', run_after > now and ARGV[10] or '')
  call('HDEL', job_key(id), 'worker')
  enqueue(id, lane, run_after, now, tonumber(ARGV[11]), 0)
else
  call('HSET', job_key(id), 'finished_at', ARGV[7])
  call('ZADD', P .. 'ends', ARGV[12], id)
end
if ARGV[14] ~= '' then
  call('SET', P .. 'result:' .. id, ARGV[14])
  if ARGV[15] ~= '' then
    call('PEXPIRE', P .. 'result:' .. id, math.max(1, math.floor(tonumber(ARGV[15]) * 1000)))
  end
end
return to
