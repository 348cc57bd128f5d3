-- A shortcut for the most common write: items for one existing list, without a window. If anything is
-- unusual, it returns nothing, and has written nothing that the complete script would not write too.
--
-- If the caller knows the thread's current version, the step is named "prepared", and ARGV[7] and the
-- following arguments have the new head and entry, so that the stored ones need not be parsed.

local function prepared_push()
  return {
    head = ARGV[7], entry = ARGV[8], stop = ARGV[9], length = ARGV[10] + 0,
    first_second = ARGV[11] + 0, last_second = ARGV[12] + 0, version = ARGV[13], updated = '0',
    most_metadata = ARGV[14] + 0, ttl = ARGV[15], nulls = ARGV[16],
  }
end

-- The same, computed from the stored head and entry.
local function parsed_push(head, entry, owner)
  local size, rest, safe, version, updated = string.match(
    head or '', '^(%d+) (%d+ %d+ %S+ (%S+)) (%d+) (%S+)$')
  local number, bytes, items, dead, tail = string.match(
    entry or '', '^(%d+ %d+ |)(%d+) (%d+) (%d+) (%d+)$')
  local ttl, limit, nulls, worker = string.match(
    ARGV[1], '^(%d+) (%d+) %d+ (%d) %d+ %d+ %d+ %d+  (%S*) %d+$')
  local count = string.match(ARGV[5], '^%d+$')
  if not (version and number and ttl and count) or items == '0' or (ttl == '0') ~= (safe == '0')
    or worker ~= '' and owner and owner ~= worker then
    return
  end
  local added = #ARGV[6] + 1
  local stop = dead + bytes - 2
  return {
    head = size + added .. ' ' .. rest, version = version, updated = updated,
    entry = number .. bytes + added .. ' ' .. items + count .. ' ' .. dead .. ' '
      .. math.max(1, tail - added),
    stop = stop, length = stop + tail, items = items + 0, ttl = ttl, nulls = nulls,
    first_second = ttl == '0' and 0 or safe - (ttl * 1.2 + 1003) / 1000,
    last_second = ttl == '0' and math.huge or safe - (ttl + 1001) / 1000,
    -- With all index terms and all punctuation.
    most_metadata = limit - 23 - size - added,
  }
end

-- Move the thread to the front of the indexes that are in the order of time: that of all threads and
-- that of its owner. Returns false if it is missing from one.
local function is_moved(index_name, id, clock, owner)
  local owned = owner and index_name .. '.@' .. owner
  if owned then
    redis.call('ZCARD', owned)
  end
  return redis.call('ZADD', index_name, 'XX', 'CH', clock, id) == 1
    and (not owned or redis.call('ZADD', owned, 'XX', 'CH', clock, id) == 1)
end

local function push_items()
  local thread_name, index_name, name = KEYS[1], KEYS[2], KEYS[3]
  local stored = redis.call('HMGET', thread_name, 'head', 'metadata', 'gone', 'lock', ARGV[4], 'owner')
  if stored[3] or stored[4] then
    return
  end
  local seen = stored[1] == ARGV[2] and ARGV[3] == 'prepared'
  local push = seen and prepared_push() or parsed_push(stored[1], stored[5], stored[6])
  if not push or redis.call('STRLEN', name) ~= push.length then
    return
  end
  local time = redis.call('TIME')
  local seconds, micros = time[1], string.format('%06d', time[2])
  local clock, version = seconds .. '.' .. micros, seconds .. micros
  -- Versions and times must rise even if the clock was set back.
  if version + 0 <= push.version + 0 or clock + 0 <= push.updated + 0
    or seconds + 0 < push.first_second or seconds + 0 > push.last_second
    or (stored[2] and #stored[2] or 0) > push.most_metadata
    or not is_moved(index_name, string.sub(thread_name, #index_name + 2), clock, stored[6]) then
    return
  end
  local head = push.head .. ' ' .. version .. ' ' .. clock
  if push.nulls == '1' then
    redis.call('HSET', thread_name, 'head', head, ARGV[4], push.entry, 'nulls', 1)
  else
    redis.call('HSET', thread_name, 'head', head, ARGV[4], push.entry)
  end
  redis.call('SETRANGE', name, push.stop, '\n' .. ARGV[6] .. ']')
  if push.ttl ~= '0' then
    redis.call('PEXPIRE', thread_name, push.ttl)
  end
  return seen and version or {'written', version, head, {ARGV[4], push.entry}, {push.items}, {}}
end

if ARGV[3] == 'prepared' or ARGV[3] == 'push' and #ARGV == 6 then
  local reply = push_items()
  if reply then
    return reply
  end
end
