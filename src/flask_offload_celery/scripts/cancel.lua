-- End a waiting job; ask the worker of a running one to stop it. ARGV: id, 1 or 2 (by force), now,
-- expires_at. The status before, or '' if there is no such job.
local id = ARGV[1]
local status, queue, lane, worker = unpack(fields(id, 'status', 'queue', 'lane', 'worker'))
if status == 'READY' then
  unqueue(id, queue, lane)
  move(id, queue, 'READY', 'CANCELLED')
  call('HSET', job_key(id), 'finished_at', ARGV[3])
  call('ZADD', P .. 'ends', ARGV[4], id)
elseif status == 'RUNNING' then
  local before = tonumber(call('HGET', job_key(id), 'cancel'))
  call('HSET', job_key(id), 'cancel', math.max(before, tonumber(ARGV[2])))
  call('SADD', P .. 'stopping:' .. worker, id)
end
return status or ''
