-- KEYS: the thread. ARGV: the id of the run, the offset of the data in its log, the data, the status
-- if the run ends, 1 if its output was truncated, and after how many milliseconds an abandoned run is
-- removed. Replies with 1, or with 0 if it is refused.
local thread_name, id, at, data, status = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local name, log = run_name(thread_name, id), log_name(thread_name, id)
local stored = redis.call('HMGET', name, 'status', 'length')
if not stored[1] then
  return 0
end
local length = tonumber(stored[2])
if stored[1] ~= 'running' then
  -- The same addition once more: its outcome was not known.
  return stored[1] == status and length == at + #data and 1 or 0
elseif at > length then
  return 0
end
if at + #data > length then
  redis.call('APPEND', log, string.sub(data, length - at + 1))
  redis.call('HSET', name, 'length', at + #data)
end
if ARGV[5] == '1' then
  redis.call('HSET', name, 'truncated', 1)
end
if status ~= '' then
  end_run(thread_name, id, status)
else
  local abandoned = ARGV[6]
  -- The log begins with the first addition. The others need not renew the times each time.
  if length == 0 or redis.call('PTTL', name) < abandoned * 0.9 then
    expire_run(thread_name, id, abandoned)
    redis.call('PEXPIRE', runs_name(thread_name), abandoned)
  end
  notify(thread_name, id)
end
return 1
