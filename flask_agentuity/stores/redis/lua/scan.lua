-- KEYS: the index. ARGV: where ZSCAN continues, and about how many threads it looks at. Replies
-- with where it continues then, and with the id, the heads and the metadata of each thread.
local step, found = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), {}
for place = 1, #step[2], 2 do
  found[#found + 1] = row_of(KEYS[1], step[2][place])
end
return {step[1], found}
