-- Resume a paused queue: its jobs are sent again. ARGV: queue, now. The ids.
local queue, now = ARGV[1], tonumber(ARGV[2])
call('HDEL', P .. 'paused', queue)
call('SADD', P .. 'queues', queue)
local ids = call('ZRANGE', P .. 'held:' .. queue, 0, -1)
for i, id in ipairs(ids) do
  enqueue(id, call('HGET', job_key(id), 'lane'), 0, now, 0, i)
end
call('DEL', P .. 'held:' .. queue)
return #ids
