-- KEYS: the thread. ARGV: the token of the lock.
local holder = string.match(redis.call('HGET', KEYS[1], 'lock') or '', '^%S+')
if holder == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'lock')
end
