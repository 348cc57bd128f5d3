-- KEYS: the thread. ARGV: a token for the lock, and after how many milliseconds it expires. Replies
-- with 1, or with 0 if another holds the lock.
local thread_name = KEYS[1]
local holder, expires = string.match(redis.call('HGET', thread_name, 'lock') or '', '^(%S+) (%d+)$')
if holder and holder ~= ARGV[1] and expires + 0 > micros then
  return 0
end
redis.call('HSET', thread_name, 'lock',
           ARGV[1] .. ' ' .. string.format('%.0f', micros + ARGV[2] * 1000))
if redis.call('HLEN', thread_name) == 1 then
  -- A lock alone must not stay.
  redis.call('PEXPIRE', thread_name, ARGV[2])
end
return 1
