-- The keys that belong to a thread.

local function string_name(thread_name, key)
  return thread_name .. '.' .. key
end

-- Whether an entry, of either format, has a string.
local function has_string(text)
  local kind, size = string.match(text, '^%d+ %d+ ([%*|])(%d+)')
  if not kind then
    kind, size = string.match(text, '^%d+ ([%*%[|])(%d+)')
  end
  return kind and (kind == '*' or size ~= '2')
end

-- The names of all strings of a thread, given the reply to HGETALL.
local function string_names(thread_name, fields)
  local names = {}
  for place = 1, #fields, 2 do
    if string.byte(fields[place]) == 34 and has_string(fields[place + 1]) then
      names[#names + 1] = string_name(thread_name, fields[place])
    end
  end
  return names
end

-- The names of the indexes that a thread with this metadata and this owner is in.
local function index_names(index_name, text, owner)
  local names = {index_name}
  if owner then
    names[2] = index_name .. '.@' .. owner
  end
  for term in string.gmatch(text or '', '\n([^\n]+)') do
    names[#names + 1] = index_name .. '.' .. term
  end
  return names
end

-- A hash with nothing but a tombstone and a lock is not a thread. Any other key is one, perhaps a
-- damaged one.
local function is_thread(name)
  local stored = redis.pcall('HMGET', name, 'head', 'gone', 'lock')
  if stored.err or stored[1] then
    return true
  end
  return redis.call('HLEN', name) > (stored[2] and 1 or 0) + (stored[3] and 1 or 0)
end
