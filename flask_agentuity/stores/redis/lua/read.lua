-- KEYS: the thread, the index. ARGV: the TTL in milliseconds (0: none), within which the thread is
-- renewed ten times at most; the time for which deletions are remembered. Replies with all
-- fields, and with the keys that have strings, each followed by its string.
local fields = redis.call('HGETALL', KEYS[1])
local strings = {}
for place = 1, #fields, 2 do
  if string.byte(fields[place]) == 34 and has_string(fields[place + 1]) then
    strings[#strings + 1] = fields[place]
    strings[#strings + 1] = redis.call('GET', string_name(KEYS[1], fields[place]))
  end
end
local ttl = tonumber(ARGV[1])
local left = ttl > 0 and redis.call('PTTL', KEYS[1])
if left and (left < ttl * 0.9 or left > ttl) then
  touch(KEYS[1], KEYS[2], ttl, tonumber(ARGV[2]))
end
return {fields, strings}
