-- Delete those of some jobs that have ended. ARGV: ids. How many were deleted.
local count = 0
for _, id in ipairs(ARGV) do
  local status = call('HGET', job_key(id), 'status')
  if status and status ~= 'READY' and status ~= 'RUNNING' then
    delete(id)
    count = count + 1
  end
end
return count
