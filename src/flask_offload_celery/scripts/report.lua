-- Record progress and cursor of an attempt, if it is still this worker's, and return whether it is
-- to stop. ARGV: id, attempt, worker, then pairs of field and value.
-- 0: go on, 1: stop, 2: stop by force, -1: it is another worker's.
local id = ARGV[1]
local job = fields(id, 'status', 'attempt', 'worker', 'cancel')
if job[1] ~= 'RUNNING' or job[2] ~= ARGV[2] or job[3] ~= ARGV[3] then
  return -1
end
for i = 4, #ARGV, 2 do
  call('HSET', job_key(id), ARGV[i], ARGV[i + 1])
end
return tonumber(job[4])
