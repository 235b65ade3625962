-- Record that times of a schedule have fired and enqueue their jobs, unless another worker has. ARGV: name, last_at as
-- the caller read it ('' if it is new), now, patience, then field-value pairs for the schedule as a
-- JSON list, then JSON of each job. {'late'}, or the result for each job.
local key, now = P .. 'schedule:' .. ARGV[1], tonumber(ARGV[3])
if (call('HGET', key, 'last_at') or '') ~= ARGV[2] then
  return {'late'}
end
call('SADD', P .. 'schedules', ARGV[1])
call('HSET', key, unpack(cjson.decode(ARGV[5])))
local results = {}
for i = 6, #ARGV do
  results[#results + 1] = create(cjson.decode(ARGV[i]), now, tonumber(ARGV[4]), i)
end
return results
