-- The runs of a thread: a list of their ids, and for each run a hash and the string of its log.

local function runs_name(thread_name)
  return thread_name .. ':runs'
end

local function run_name(thread_name, id)
  return thread_name .. ':run:' .. id
end

local function log_name(thread_name, id)
  return thread_name .. ':log:' .. id
end

-- Those who wait for a run have subscribed to a channel with its name. A user of Redis without the
-- right to publish delays them only.
local function notify(thread_name, id)
  redis.pcall('PUBLISH', run_name(thread_name, id), '')
end

local function expire_run(thread_name, id, milliseconds)
  redis.call('PEXPIRE', log_name(thread_name, id), milliseconds)
  redis.call('PEXPIRE', run_name(thread_name, id), milliseconds)
end

local function end_run(thread_name, id, status)
  local name = run_name(thread_name, id)
  redis.call('HSET', name, 'status', status)
  expire_run(thread_name, id, redis.call('HGET', name, 'keep'))
  notify(thread_name, id)
end

local function interrupt_runs(thread_name, holder)
  for _, id in ipairs(redis.call('LRANGE', runs_name(thread_name), 0, -1)) do
    local stored = redis.call('HMGET', run_name(thread_name, id), 'status', 'holder')
    if stored[1] == 'running' and stored[2] == holder then
      end_run(thread_name, id, 'interrupted')
    end
  end
end

local function delete_runs(thread_name, ids)
  for _, id in ipairs(ids) do
    redis.call('DEL', run_name(thread_name, id), log_name(thread_name, id))
    notify(thread_name, id)
  end
  redis.call('DEL', runs_name(thread_name))
end
