-- Delete jobs that were not reported as accepted. ARGV: 1 to delete none if one has started, then
-- ids. The ids of those that have started, or that an outbox has delivered.
local started, waiting = {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local status, attempt, relayed = unpack(fields(id, 'status', 'attempt', 'relayed'))
  if status == 'READY' and attempt == '0' and not relayed then
    waiting[#waiting + 1] = id
  elseif status then
    started[#started + 1] = id
  end
end
if #started == 0 or ARGV[1] == '0' then
  for _, id in ipairs(waiting) do
    delete(id)
  end
end
return started
