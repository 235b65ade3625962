-- Take jobs back that no message could be sent for. ARGV: ids. The ids that have started after all.
local started = {}
for _, id in ipairs(ARGV) do
  local status, attempt = unpack(fields(id, 'status', 'attempt'))
  if status == 'READY' and attempt == '0' then
    delete(id)
  elseif status then
    started[#started + 1] = id
  end
end
return started
