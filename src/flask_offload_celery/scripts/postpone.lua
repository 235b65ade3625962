-- Let a READY job wait until a later moment, as this app does not have its task. ARGV: id, moment.
local id = ARGV[1]
local status, queue, lane = unpack(fields(id, 'status', 'queue', 'lane'))
if status == 'READY' then
  unqueue(id, queue, lane)
  call('ZADD', P .. 'due', ARGV[2], id)
end
return status or ''
