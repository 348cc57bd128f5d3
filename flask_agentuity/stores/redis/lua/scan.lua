-- KEYS: the index. ARGV: the cursor of ZSCAN, and about how many threads to examine. Replies with the
-- next cursor, and with a row for each thread (see rows.lua).
local step, found = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), {}
for place = 1, #step[2], 2 do
  found[#found + 1] = row_of(KEYS[1], step[2][place])
end
return {step[1], found}
