-- What is stored of a step of a running attempt. ARGV: id, attempt, name, value ('': only read it).
-- {1, value or nil}, or {0} if the attempt no longer holds the job.
local id = ARGV[1]
local job = fields(id, 'status', 'attempt')
if job[1] ~= 'RUNNING' or job[2] ~= ARGV[2] then
  return {0}
end
local field = 'step:' .. ARGV[3]
if ARGV[4] ~= '' then
  call('HSET', job_key(id), field, ARGV[4])
end
return {1, call('HGET', job_key(id), field)}
