-- KEYS: the index. ARGV: the cursor of ZSCAN, and about how many threads to examine. Replies with the
-- next cursor, and with the number of expired threads that were removed.
local step = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local removed = 0
for place = 1, #step[2], 2 do
  if not is_thread(KEYS[1] .. ':' .. step[2][place]) then
    removed = removed + redis.call('ZREM', KEYS[1], step[2][place])
  end
end
return {step[1], removed}
