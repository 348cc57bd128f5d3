-- KEYS: the thread. ARGV: who wants the lock, and for how many milliseconds. Replies with 1, or
-- with 0 if another has it.
local thread_name = KEYS[1]
local holder, expires = string.match(redis.call('HGET', thread_name, 'lock') or '', '^(%S+) (%d+)$')
if holder and holder ~= ARGV[1] and expires + 0 > micros then
  return 0
end
redis.call('HSET', thread_name, 'lock',
           ARGV[1] .. ' ' .. string.format('%.0f', micros + ARGV[2] * 1000))
if redis.call('HLEN', thread_name) == 1 then
  -- A thread that does not exist yet leaves nothing behind.
  redis.call('PEXPIRE', thread_name, ARGV[2])
end
return 1
