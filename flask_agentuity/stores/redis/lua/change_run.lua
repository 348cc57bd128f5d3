-- KEYS: the thread. ARGV: the id of the run, and "interrupt" or "stop". Replies with 1, or with 0 if it
-- is not running.
local thread_name, id = KEYS[1], ARGV[1]
local name = run_name(thread_name, id)
if redis.call('HGET', name, 'status') ~= 'running' then
  return 0
end
if ARGV[2] == 'interrupt' then
  end_run(thread_name, id, 'interrupted')
else
  redis.call('HSET', name, 'stopping', 1)
  notify(thread_name, id)
end
return 1
