-- Expiry of keys. The hash alone decides whether a thread exists. Its strings and indexes stay longer,
-- so most writes need not renew all of them.

local function longest(ttl)
  return ttl > 0 and math.ceil(ttl * 1.2) + 2 or 0
end

-- Whether keys that expire at a time outlive a thread that is renewed now, but not by much.
local function is_safe(safe, ttl)
  if ttl == 0 or safe == 0 then
    return ttl == 0 and safe == 0
  end
  local left = (safe - now) * 1000
  return left >= ttl + 1 and left <= longest(ttl) + 1
end

local function expire(name, milliseconds)
  if milliseconds > 0 then
    redis.call('PEXPIRE', name, milliseconds)
  else
    redis.call('PERSIST', name)
  end
end

-- The milliseconds for which a deletion is still remembered; 0 if there was none.
local function remembered(gone, milliseconds)
  local deleted = string.match(gone or '', '^(%d+) ')
  return deleted and math.max(0, milliseconds - math.floor((micros - deleted) / 1000)) or 0
end

-- Enter a thread in an index. An index stays as long as the last of its threads, and then for another
-- time to live, so that a purge finds and counts expired threads.
local function enter(name, id, updated, ttl, longer)
  local entered = redis.call('ZADD', name, updated, id) == 1
  if not (entered or longer) then
    return false
  end
  local is_new = entered and redis.call('ZCARD', name) == 1
  local left, milliseconds = redis.call('PTTL', name), longest(ttl) + ttl
  if ttl == 0 and left >= 0 then
    redis.call('PERSIST', name)
  elseif ttl > 0 and (is_new or left >= 0 and left < milliseconds) then
    redis.call('PEXPIRE', name, milliseconds)
  end
  return entered
end
