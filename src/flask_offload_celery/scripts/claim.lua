-- Start an attempt, if the job waits for one. ARGV: id, worker, now, a token of this call, which
-- identifies it when it is repeated because the first answer was lost, and for a message of plain
-- Celery code the JSON of the job that it makes, else ''.
-- {'run', body, enqueued_at, attempt, failures, crashes, cursor}, or {why not}.
local id, worker, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local token, plain = ARGV[4], ARGV[5]
if plain ~= '' then
  create(cjson.decode(plain), now, 60, 0)
end
local job = fields(id, 'status', 'queue', 'lane', 'body', 'enqueued_at', 'failures', 'crashes',
  'cursor', 'token', 'attempt', 'resent')
local status, queue, lane = job[1], job[2], job[3]
if not status then
  return {'gone'}
elseif status == 'RUNNING' and job[9] == token then
  return {'run', job[4], job[5], tonumber(job[10]), job[6], job[7], job[8]}
elseif status ~= 'READY' then
  return {status}
elseif call('ZSCORE', P .. 'due', id) then
  return {'early'}
end
local sent = call('ZSCORE', P .. 'sent:' .. lane, id)
unqueue(id, queue, lane)
if call('HEXISTS', P .. 'paused', queue) == 1 then
  call('ZADD', P .. 'held:' .. queue, call('HGET', job_key(id), 'order'), id)
  return {'paused'}
end
-- when the newest claimed job of this lane was sent: a message that is much older is lost. Of a job
-- that was sent again, this may be the first message: all sent between the two are not lost
local served = tonumber(call('HGET', P .. 'served', lane) or 0)
if sent and not job[11] and tonumber(sent) > served then
  call('HSET', P .. 'served', lane, sent)
end
move(id, queue, 'READY', 'RUNNING')
local attempt = call('HINCRBY', job_key(id), 'attempt', 1)
call('HSET', job_key(id), 'worker', worker, 'started_at', now, 'token', token)
call('HDEL', job_key(id), 'done', 'total', 'message', 'resent')
call('SADD', P .. 'running:' .. worker, id)
return {'run', job[4], job[5], attempt, job[6], job[7], job[8]}
