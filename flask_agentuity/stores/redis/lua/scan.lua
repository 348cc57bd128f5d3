-- KEYS: the index. ARGV: the cursor of ZSCAN, about how many threads to examine, the index that is
-- scanned ("" in the first call), and index terms. Replies with the next cursor, with the index that
-- is scanned (of the rarest term), and with a row for each thread (see rows.lua).
local name, fewest = ARGV[3], math.huge
if name == '' then
  name = KEYS[1]
  for place = 4, #ARGV do
    local other = KEYS[1] .. '.' .. ARGV[place]
    local count = redis.call('ZCARD', other)
    if count < fewest then
      name, fewest = other, count
    end
  end
end
local step, found = redis.call('ZSCAN', name, ARGV[1], 'COUNT', ARGV[2]), {}
for place = 1, #step[2], 2 do
  found[#found + 1] = row_of(KEYS[1], step[2][place])
end
return {step[1], name, found}
