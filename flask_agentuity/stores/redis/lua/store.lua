-- Write everything. If Redis has no free memory, only the first write of a script can fail. A thread
-- that does not grow is written even then, so its first write is one that Redis never refuses.

if size_after <= size_before then
  redis.call('HDEL', thread_name, '')
end
local entered = {}
for _, name in ipairs(indexes) do
  if enter(name, id, head.updated, ttl, longer) then
    entered[#entered + 1] = name
  end
end

local head_text = join_head(head)
local fields, removed, lists = {'head', head_text}, {}, {}

local function remove_if(condition, field)
  if condition then
    removed[#removed + 1] = field
  end
end

local function collect_entries()
  for key in pairs(changed) do
    local entry = entries[key]
    if entry then
      local text = join_entry(entry)
      fields[#fields + 1], fields[#fields + 2] = key, text
      if entry.kind == '|' then
        lists[#lists + 1], lists[#lists + 2] = key, text
      end
    else
      removed[#removed + 1] = key
    end
  end
  for place = 1, cleared and #cleared or 0, 2 do
    remove_if(string.byte(cleared[place]) == 34 and not entries[cleared[place]], cleared[place])
  end
end

local function in_batches(command, arguments)
  for first = 1, #arguments, 1000 do
    redis.call(command, thread_name, unpack(arguments, first, math.min(first + 999, #arguments)))
  end
end

if metadata ~= former_metadata and metadata ~= '{}' then
  fields[3], fields[4] = 'metadata', metadata
end
if owner and owner ~= former_owner then
  fields[#fields + 1], fields[#fields + 2] = 'owner', owner
end
if nulls == '1' then
  fields[#fields + 1], fields[#fields + 2] = 'nulls', 1
end
remove_if(metadata == '{}' and stored[3], 'metadata')
remove_if(former_owner and not owner, 'owner')
remove_if(nulls == '0' and cleared, 'nulls')
remove_if(stored[2], 'thread')
remove_if(stored[4] and left == 0, 'gone')
remove_if(stored[5], 'lock')
collect_entries()
in_batches('HSET', fields)
in_batches('HDEL', removed)
expire(thread_name, ttl)
for _, name in ipairs(dropped) do
  redis.call('DEL', name)
end
for _, name in ipairs(left_behind) do
  redis.call('ZREM', name, id)
end

local milliseconds = ttl > 0 and math.ceil((head.safe - now) * 1000) or 0
for name, body in pairs(bodies) do
  -- Replaces what may be left of an expired thread.
  redis.call('SET', name, body)
  if ttl > 0 then
    redis.call('PEXPIRE', name, milliseconds)
  end
end
for _, patch in ipairs(patches) do
  redis.call('SETRANGE', patch[1], patch[2], patch[3])
end
if longer then
  for _, name in ipairs(string_names(thread_name, redis.call('HGETALL', thread_name))) do
    expire(name, milliseconds)
  end
end

-- Threads expire without being removed from the index. When a thread is entered, the oldest one and a
-- few random ones are checked, so that expired threads stay a small part of the index.
local function sweep(name)
  local members = redis.call('ZRANGE', name, 0, 0)
  local place = time[2] * 7919 % redis.call('ZCARD', name)
  for _, member in ipairs(redis.call('ZRANGE', name, place, place + 2)) do
    members[#members + 1] = member
  end
  for _, member in ipairs(members) do
    if not is_thread(index_name .. ':' .. member) then
      redis.call('ZREM', name, member)
    end
  end
end

for _, name in ipairs(entered) do
  sweep(name)
end
return {'written', version_text, head_text, lists, counts, skipped}
