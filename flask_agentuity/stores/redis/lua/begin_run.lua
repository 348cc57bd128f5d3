-- KEYS: the thread. ARGV: the id of the run, its format, the holder of its turn, when it was started,
-- for how many milliseconds it is kept after its end, and after how many an abandoned run is removed.
local thread_name, id, abandoned = KEYS[1], ARGV[1], ARGV[6]
local name, list = run_name(thread_name, id), runs_name(thread_name)
if redis.call('EXISTS', name) == 1 then
  return
end
for _, other in ipairs(redis.call('LRANGE', list, 0, -1)) do
  local status = redis.call('HGET', run_name(thread_name, other), 'status')
  if status == 'running' then
    end_run(thread_name, other, 'interrupted')
  elseif not status then
    redis.call('LREM', list, 0, other)
  end
end
redis.call('DEL', log_name(thread_name, id))
redis.call('HSET', name, 'format', ARGV[2], 'holder', ARGV[3], 'started', ARGV[4], 'keep', ARGV[5],
           'status', 'running', 'length', 0, 'stopping', 0, 'truncated', 0)
redis.call('RPUSH', list, id)
redis.call('PEXPIRE', list, abandoned)
redis.call('PEXPIRE', name, abandoned)
notify(thread_name, id)
