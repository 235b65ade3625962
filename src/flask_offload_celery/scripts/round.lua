-- A round of a worker's maintenance: send a heartbeat, make due jobs ready, and return the messages
-- that it is to send. ARGV: worker, its description, now, patience, limit.
-- {ids to send, jobs to stop as id and how}
local worker, now, patience = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
call('HINCRBY', P .. 'beats', worker, 1)
call('HSET', P .. 'workers', worker, ARGV[2])
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, ARGV[5])) do
  local lane = call('HGET', job_key(id), 'lane')
  call('ZREM', P .. 'due', id)
  enqueue(id, lane, 0, now, 0, 0)
end
local send = call('ZRANGEBYSCORE', P .. 'unsent', '-inf', now, 'LIMIT', 0, ARGV[5])
for i, id in ipairs(send) do
  -- if it can't send them, another worker tries later
  call('ZADD', P .. 'unsent', now + patience + i * 1e-6, id)
end
local stop = {}
for _, id in ipairs(call('SMEMBERS', P .. 'stopping:' .. worker)) do
  stop[#stop + 1] = id
  stop[#stop + 1] = call('HGET', job_key(id), 'cancel') or '0'
end
return {send, stop, call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')}
