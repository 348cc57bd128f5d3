-- KEYS: the thread. ARGV: the id of a run, or nothing for the latest one. Replies with the id and what is
-- stored of the run, or with nothing.
local thread_name = KEYS[1]
local ids = #ARGV > 0 and ARGV or redis.call('LRANGE', runs_name(thread_name), 0, -1)
for place = #ids, 1, -1 do
  local stored = redis.call('HMGET', run_name(thread_name, ids[place]), 'format', 'holder', 'started',
                            'status', 'length', 'stopping', 'truncated')
  if stored[1] then
    return {ids[place], unpack(stored)}
  end
end
return {}
