-- Put before every script. KEYS[1] is the prefix of every key; redis_store.py lists the names after
-- it. A job's hash is authoritative; all other keys are indexes.
local P = KEYS[1]
local call = redis.call

local function job_key(id)
  return P .. 'job:' .. id
end

-- The job's hash fields, in the order asked for; all false when there is no such job.
local function fields(id, ...)
  return call('HMGET', job_key(id), ...)
end

-- Set the status, and move the job from the list of one status to that of another.
local function move(id, queue, from, to)
  local order = call('HGET', job_key(id), 'order')
  call('HSET', job_key(id), 'status', to)
  call('ZREM', P .. 'is:' .. from, id)
  call('ZADD', P .. 'is:' .. to, order, id)
  call('HINCRBY', P .. 'tally', queue .. '|' .. from, -1)
  call('HINCRBY', P .. 'tally', queue .. '|' .. to, 1)
end

-- Remove a waiting job from whatever it waits in.
local function unqueue(id, queue, lane)
  call('ZREM', P .. 'due', id)
  call('ZREM', P .. 'unsent', id)
  call('ZREM', P .. 'sent:' .. lane, id)
  call('ZREM', P .. 'held:' .. queue, id)
end

-- Let a READY job wait for its time, or for a message. The caller sends that message itself;
-- `patience` seconds later a worker does it instead.
local function enqueue(id, lane, run_after, now, patience, place)
  if run_after > now then
    call('ZADD', P .. 'due', run_after, id)
  else
    call('ZADD', P .. 'unsent', now + patience + place * 1e-6, id)
    call('ZADD', P .. 'sent:' .. lane, now, id)
  end
end

-- Remove every trace of a job.
local function delete(id)
  local job = fields(id, 'queue', 'lane', 'status', 'unique', 'worker')
  local queue, lane, status, unique, worker = job[1], job[2], job[3], job[4], job[5]
  if not status then
    call('ZREM', P .. 'ends', id)
    call('ZREM', P .. 'all', id)
  call('ZREM', P .. 'ids', id)
    return
  end
  unqueue(id, queue, lane)
  call('ZREM', P .. 'is:' .. status, id)
  call('ZREM', P .. 'all', id)
  call('ZREM', P .. 'ids', id)
  call('ZREM', P .. 'ends', id)
  call('HINCRBY', P .. 'tally', queue .. '|' .. status, -1)
  if worker then
    call('SREM', P .. 'running:' .. worker, id)
    call('SREM', P .. 'stopping:' .. worker, id)
  end
  if unique and unique ~= '' and call('GET', P .. 'unique:' .. unique) == id then
    call('DEL', P .. 'unique:' .. unique)
  end
  call('DEL', job_key(id), P .. 'attempts:' .. id, P .. 'result:' .. id)
end

-- The id of the job that holds a unique key; nil if the key is free.
local function key_owner(unique, unique_for, states, now)
  local id = call('GET', P .. 'unique:' .. unique)
  if not id then
    return nil
  end
  local status, enqueued_at = unpack(fields(id, 'status', 'enqueued_at'))
  local recent = unique_for == '' or (enqueued_at and tonumber(enqueued_at) > now - unique_for)
  if status and recent and string.find(',' .. states .. ',', ',' .. status .. ',', 1, true) then
    return id
  end
  return nil
end

-- Record a new job; {'new'}, {'known'} or {'duplicate', id of the other job}.
-- job: a table of id, task, queue, lane, owner, enqueued_at, run_after, unique, unique_for, states,
-- body (all else, as JSON).
local function create(job, now, patience, place)
  local key = job_key(job.id)
  if call('EXISTS', key) == 1 then
    return {'known'}
  end
  if job.unique ~= '' then
    local id = key_owner(job.unique, job.unique_for, job.states, now)
    if id then
      return {'duplicate', id}
    end
    call('SET', P .. 'unique:' .. job.unique, job.id)
  end
  local order = call('INCR', P .. 'order')
  call('HSET', key, 'order', order, 'status', 'READY', 'task', job.task, 'queue', job.queue,
    'lane', job.lane, 'owner', job.owner, 'enqueued_at', job.enqueued_at, 'run_after',
    job.run_after, 'unique', job.unique, 'body', job.body, 'attempt', 0, 'failures', 0,
    'crashes', 0, 'cancel', 0)
  call('ZADD', P .. 'all', order, job.id)
  call('ZADD', P .. 'ids', 0, job.id)
  call('ZADD', P .. 'is:READY', order, job.id)
  call('HINCRBY', P .. 'tally', job.queue .. '|READY', 1)
  call('SADD', P .. 'queues', job.queue)
  call('SADD', P .. 'lanes', job.lane)
  enqueue(job.id, job.lane, tonumber(job.run_after) or 0, now, patience, place)
  return {'new'}
end
