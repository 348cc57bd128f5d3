-- KEYS: the thread, the index, the thread under its new id. ARGV: the milliseconds for which the
-- deletion of the former id is remembered, the owner ("": as it is), the version that the request has
-- read (0: none), and the owner for whom it works ("": anyone). Replies with "moved",
-- "missing", "foreign" or "taken", and with the server's time in microseconds if something was changed.
local thread_name, index_name, new_name = KEYS[1], KEYS[2], KEYS[3]
local stored = redis.call('HMGET', thread_name, 'head', 'thread', 'metadata', 'gone', 'owner')
local head = (stored[1] or stored[2]) and parse_head(stored[1], stored[2] or nil)
if not head and is_thread(thread_name) then
  error('DAMAGED')
end
local former_owner = stored[5] or nil
local owner = former_owner or ARGV[2] ~= '' and ARGV[2] or nil
local function is_other(name)
  return former_owner and name ~= '' and name ~= former_owner
end
local read_version = tonumber(ARGV[3])
local is_later = head and read_version > 0 and tonumber(head.born) > read_version
if is_other(ARGV[2]) or is_other(ARGV[4]) or is_later then
  return {'foreign'}
elseif redis.call('EXISTS', new_name) == 1 then
  return {'taken'}
elseif not head then
  return {'missing', (delete_thread(thread_name, index_name, ARGV[1]))}
end

local function id_of(name)
  return string.sub(name, #index_name + 2)
end

-- Raises an error before anything is changed.
local strings = string_names(thread_name, redis.call('HGETALL', thread_name))
for _, name in ipairs(strings) do
  if redis.call('STRLEN', name) == 0 then
    error('DAMAGED')
  end
end
local runs = redis.call('LRANGE', runs_name(thread_name), 0, -1)
local indexes = index_names(index_name, stored[3], owner)
for _, name in ipairs(indexes) do
  redis.call('ZCARD', name)
end
local ttl = math.max(0, redis.call('PTTL', thread_name))
local new_strings = string_names(new_name, redis.call('HGETALL', thread_name))

-- An empty thread is only in the index of its owner.
local is_listed = redis.call('ZREM', index_name, id_of(thread_name)) == 1
redis.call('RENAME', thread_name, new_name)
for place, name in ipairs(strings) do
  redis.call('RENAME', name, new_strings[place])
end
redis.call('HDEL', new_name, 'gone', 'lock')
if owner then
  redis.call('HSET', new_name, 'owner', owner)
end
for place, name in ipairs(indexes) do
  redis.call('ZREM', name, id_of(thread_name))
  if is_listed or owner and place == 2 then
    enter(name, id_of(new_name), head.updated, ttl, true)
  end
end
delete_runs(thread_name, runs)
local moved = string.format('%.0f', micros)
redis.call('HSET', thread_name, 'gone', moved .. ' ' .. head.version)
redis.call('PEXPIRE', thread_name, ARGV[1])
return {'moved', moved}
