-- Enable a schedule that is disabled: times that have passed meanwhile are dealt with. ARGV: name, now.
local key = P .. 'schedule:' .. ARGV[1]
if call('HDEL', key, 'disabled_at') == 1 and tonumber(call('HGET', key, 'last_at')) < tonumber(ARGV[2]) then
  call('HSET', key, 'last_at', ARGV[2])
end
return 0
