-- KEYS: the thread, the index. ARGV: the time to live (0: do not renew), which is renewed when a tenth
-- of it has passed, and the time for which deletions are remembered, both in milliseconds; how many
-- fields are not many. For a person, also the person as an owner ("": a guest), and "*", or "" and the
-- keys whose strings are wanted.
--
-- Replies with all fields, and with the keys that have strings, each followed by its string. With many
-- fields, replies with one list: each field, its text and its string, which is empty if it has none or
-- is not wanted. Replies with only the owner, not in a list, if the thread belongs to another person.
if ARGV[4] then
  local owner = redis.call('HGET', KEYS[1], 'owner')
  if owner and owner ~= ARGV[4] then
    return owner
  end
end
local wanted
if ARGV[5] == '' then
  wanted = {}
  for place = 6, #ARGV do
    wanted[ARGV[place]] = true
  end
end
local fields = redis.call('HGETALL', KEYS[1])
local strings, all = {}, {}
local are_many = #fields > 2 * tonumber(ARGV[3])
for place = 1, #fields, 2 do
  local key, text = fields[place], nil
  if string.byte(key) == 34 and has_string(fields[place + 1]) and (not wanted or wanted[key]) then
    text = redis.call('GET', string_name(KEYS[1], key))
  end
  if are_many then
    all[#all + 1], all[#all + 2], all[#all + 3] = key, fields[place + 1], text == nil and '' or text
  elseif text ~= nil then
    strings[#strings + 1], strings[#strings + 2] = key, text
  end
end
local ttl = tonumber(ARGV[1])
local left = ttl > 0 and redis.call('PTTL', KEYS[1])
if left and (left < ttl * 0.9 or left > ttl) then
  touch(KEYS[1], KEYS[2], ttl, tonumber(ARGV[2]))
end
if are_many then
  return all
end
return {fields, strings}
