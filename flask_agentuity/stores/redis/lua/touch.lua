-- Renew the time to live of a thread. A replica that must not write can still be read.
local function touch(thread_name, index_name, ttl, memory)
  local stored = redis.call('HMGET', thread_name, 'head', 'thread', 'metadata', 'gone', 'owner')
  local head = parse_head(stored[1], stored[2])
  ttl = math.max(ttl, remembered(stored[4], memory))
  if not head or type(redis.pcall('PEXPIRE', thread_name, ttl)) == 'table' then
    return
  end
  if is_safe(tonumber(head.safe), ttl) then
    return
  end
  local milliseconds = longest(ttl)
  for _, name in ipairs(string_names(thread_name, redis.call('HGETALL', thread_name))) do
    redis.call('PEXPIRE', name, milliseconds)
  end
  local is_listed = head.size ~= '0' or stored[3]
  local id = string.sub(thread_name, #index_name + 2)
  for place, name in ipairs(index_names(index_name, stored[3], stored[5])) do
    if is_listed or stored[5] and place == 2 then
      enter(name, id, head.updated, ttl, true)
    end
  end
  store_safe(thread_name, head, string.format('%.17g', now + milliseconds / 1000))
end
