-- KEYS: the thread, the index. ARGV: the time to live (0: do not renew), which is renewed when a tenth
-- of it has passed, and the time for which deletions are remembered, both in milliseconds. For a person,
-- also the person as an owner ("": a guest), and "*", or "" and the keys whose strings are wanted.
--
-- Replies with all fields, and with the keys that have strings, each followed by its string; with
-- nothing but the owner if the thread belongs to another person.
if ARGV[3] then
  local owner = redis.call('HGET', KEYS[1], 'owner')
  if owner and owner ~= ARGV[3] then
    return {owner}
  end
end
local wanted
if ARGV[4] == '' then
  wanted = {}
  for place = 5, #ARGV do
    wanted[ARGV[place]] = true
  end
end
local fields = redis.call('HGETALL', KEYS[1])
local strings = {}
for place = 1, #fields, 2 do
  local key = fields[place]
  if string.byte(key) == 34 and has_string(fields[place + 1]) and (not wanted or wanted[key]) then
    strings[#strings + 1] = key
    strings[#strings + 1] = redis.call('GET', string_name(KEYS[1], key))
  end
end
local ttl = tonumber(ARGV[1])
local left = ttl > 0 and redis.call('PTTL', KEYS[1])
if left and (left < ttl * 0.9 or left > ttl) then
  touch(KEYS[1], KEYS[2], ttl, tonumber(ARGV[2]))
end
return {fields, strings}
