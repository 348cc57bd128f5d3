-- KEYS: the thread, the index. ARGV: the time to live (0: do not renew), which is renewed when a tenth
-- of it has passed, and the time for which deletions are remembered, both in milliseconds. Replies with
-- all fields, and with the keys that have strings, each followed by its string.
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
