-- Threads that were written before the server's clock was set back seem to be of the future. They would
-- stay at the top of listings, and expire late, until the clock has caught up. So they count as updated
-- just before that is noticed. Their order stays.

local function correct_expiry(thread_name, ttl, gone, memory)
  if ttl > 0 and redis.call('PTTL', thread_name) > ttl then
    redis.call('PEXPIRE', thread_name, math.max(ttl, remembered(gone, memory)))
  end
end

local function correct_time(index_name, id, at, ttl, memory)
  local thread_name = index_name .. ':' .. id
  local stored = redis.pcall('HMGET', thread_name, 'head', 'thread', 'owner', 'gone')
  local head = not stored.err and (stored[1] or stored[2]) and parse_head(stored[1], stored[2] or nil)
  local reply = redis.pcall('ZADD', index_name, 'XX', at, id)
  if type(reply) == 'table' then
    -- A replica that must not write can still list threads.
    return false
  elseif not head then
    return true
  end
  if stored[3] then
    redis.call('ZADD', index_name .. '.@' .. stored[3], 'XX', at, id)
  end
  if tonumber(head.updated) > tonumber(at) then
    head.updated = at
  end
  if tonumber(head.created) > tonumber(at) then
    head.created = at
  end
  store_safe(thread_name, head, head.safe)
  correct_expiry(thread_name, ttl, stored[4], memory)
  return true
end

-- Correct some threads, the earliest first. ARGV[1]: the time to live and the time for which deletions
-- are remembered, in milliseconds, and how much later than now the time of a thread must be, in seconds.
local function correct_times(index_name)
  local ttl, memory, ahead = string.match(ARGV[1], '^(%d+) (%d+) (%d+)$')
  local ids = redis.call('ZRANGEBYSCORE', index_name, '(' .. now + ahead, '+inf', 'LIMIT', 0, 100)
  for place, id in ipairs(ids) do
    -- A microsecond apart, so that their order stays.
    local at = string.format('%.6f', now - 0.1 + place / 1e6)
    if not correct_time(index_name, id, at, ttl + 0, memory + 0) then
      return
    end
  end
end
