-- How long keys stay. Only the hash decides whether a thread exists. Its strings and indexes stay
-- longer, so most writes need not renew them all.

local function longest(ttl)
  return ttl > 0 and math.ceil(ttl * 1.2) + 2 or 0
end

-- Whether keys that stay until then outlive a thread that is renewed now, and not by much.
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

-- How many milliseconds a deleted thread is still remembered, given its field; 0 without one.
local function remembered(gone, milliseconds)
  local deleted = string.match(gone or '', '^(%d+) ')
  return deleted and math.max(0, milliseconds - math.floor((micros - deleted) / 1000)) or 0
end

-- An index belongs to many threads. It stays as long as the thread that stays longest, and then
-- as long again as an unused thread does, so that a purge finds and counts what has expired.
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
