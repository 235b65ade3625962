-- Put a failed or cancelled job back, its counts at zero. ARGV: id, now, patience.
-- The status before, or '' if there is no such job.
local id, now = ARGV[1], tonumber(ARGV[2])
local status, queue, lane = unpack(fields(id, 'status', 'queue', 'lane'))
if status == 'FAILED' or status == 'CANCELLED' then
  move(id, queue, status, 'READY')
  call('HSET', job_key(id), 'failures', 0, 'crashes', 0, 'cancel', 0, 'run_after', '')
  call('HDEL', job_key(id), 'finished_at', 'worker', 'done', 'total', 'message')
  call('ZREM', P .. 'ends', id)
  enqueue(id, lane, 0, now, tonumber(ARGV[3]), 0)
end
return status or ''
