-- Delete jobs that no message could be sent for. ARGV: ids. The ids of those that have started, or
-- that an outbox has delivered.
local started = {}
for _, id in ipairs(ARGV) do
  local status, attempt, relayed = unpack(fields(id, 'status', 'attempt', 'relayed'))
  if status == 'READY' and attempt == '0' and not relayed then
    delete(id)
  elseif status then
    started[#started + 1] = id
  end
end
return started
