-- Find jobs of one lane whose message is lost, and have it sent again. A message that was only late
-- does no harm: the first to arrive claims the job. ARGV: lane, now, seconds by
-- which the message is older than that of a claimed job, seconds after which it is lost
-- when the broker's queue is empty, 1 if it is, limit. How many.
local lane, now = ARGV[1], tonumber(ARGV[2])
local before = tonumber(call('HGET', P .. 'served', lane) or 0) - tonumber(ARGV[3])
if ARGV[5] == '1' then
  before = math.max(before, now - tonumber(ARGV[4]))
end
local lost = call('ZRANGEBYSCORE', P .. 'sent:' .. lane, '-inf', before, 'LIMIT', 0, ARGV[6])
for i, id in ipairs(lost) do
  call('ZADD', P .. 'sent:' .. lane, now, id)
  call('ZADD', P .. 'unsent', now + i * 1e-6, id)
  call('HSET', job_key(id), 'resent', 1)
end
return #lost
