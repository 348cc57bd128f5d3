-- KEYS: the index. ARGV: where ZSCAN continues, and about how many threads it looks at. Replies
-- with where it continues then, and with how many expired threads were removed.
local step = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local removed = 0
for place = 1, #step[2], 2 do
  if not is_thread(KEYS[1] .. ':' .. step[2][place]) then
    removed = removed + redis.call('ZREM', KEYS[1], step[2][place])
  end
end
return {step[1], removed}
