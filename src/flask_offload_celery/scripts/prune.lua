-- Delete finished jobs whose retention time is over, and the oldest of those that are too many.
-- ARGV: now, how many finished jobs are kept, limit. How many were deleted.
local limit = tonumber(ARGV[3])
local ids = call('ZRANGEBYSCORE', P .. 'ends', '-inf', ARGV[1], 'LIMIT', 0, limit)
local spare = call('ZCARD', P .. 'ends') - #ids - tonumber(ARGV[2])
if spare > 0 and #ids < limit then
  local wanted = math.min(spare, limit - #ids)
  for _, id in ipairs(call('ZRANGE', P .. 'ends', #ids, #ids + wanted - 1)) do
    ids[#ids + 1] = id
  end
end
for _, id in ipairs(ids) do
  delete(id)
end
return #ids
