-- Delete a thread, and remember for some milliseconds that it was deleted. Returns the server's time in
-- microseconds, and whether there was a thread.
local function delete_thread(thread_name, index_name, memory)
  local fields = redis.call('HGETALL', thread_name)
  local stored = redis.call('HMGET', thread_name, 'head', 'thread', 'metadata', 'gone', 'owner')
  local strings = string_names(thread_name, fields)
  local runs = redis.call('LRANGE', runs_name(thread_name), 0, -1)
  local indexes = index_names(index_name, stored[3], stored[5])
  -- Raises an error for a wrong type before anything is removed.
  for _, name in ipairs(strings) do
    redis.call('STRLEN', name)
  end
  for _, name in ipairs(indexes) do
    redis.call('ZCARD', name)
  end
  local head = parse_head(stored[1], stored[2])
  local version = head and head.version or string.match(stored[4] or '', ' (%d+)$') or '0'
  for _, name in ipairs(indexes) do
    redis.call('ZREM', name, string.sub(thread_name, #index_name + 2))
  end
  for _, name in ipairs(strings) do
    redis.call('DEL', name)
  end
  redis.call('DEL', thread_name)
  delete_runs(thread_name, runs)
  local deleted = string.format('%.0f', micros)
  redis.call('HSET', thread_name, 'gone', deleted .. ' ' .. version)
  redis.call('PEXPIRE', thread_name, memory)
  return deleted, head ~= nil
end
