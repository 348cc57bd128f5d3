-- KEYS: the index. ARGV: the cursor of ZSCAN, about how many threads to examine, and 1 if expired ones
-- are removed. Replies with the next cursor, and with the number of expired threads.
local step = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local expired = 0
for place = 1, #step[2], 2 do
  if not is_thread(KEYS[1] .. ':' .. step[2][place]) then
    expired = expired + (ARGV[3] == '1' and redis.call('ZREM', KEYS[1], step[2][place]) or 1)
  end
end
return {step[1], expired}
