-- KEYS: the turn. ARGV: the new holder, and for how many milliseconds. Replies with 1, or with 0 if
-- another has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
