-- KEYS: the index. ARGV: what corrections.lua needs, the cursor of ZSCAN, about how many threads to
-- examine, and 1 if expired ones are removed. Replies with the next cursor, and with the number of
-- expired threads.
local is_removed = ARGV[4] == '1'
if is_removed then
  correct_times(KEYS[1])
end
local step = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local expired = 0
for place = 1, #step[2], 2 do
  if not is_thread(KEYS[1] .. ':' .. step[2][place]) then
    expired = expired + (is_removed and redis.call('ZREM', KEYS[1], step[2][place]) or 1)
  end
end
return {step[1], expired}
