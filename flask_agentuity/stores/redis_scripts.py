"""What runs inside Redis. A script decides everything before its first write, so it happens
as a whole or not at all.

The scripts of a turn are given the name of the key that says who has it, all others the names
of a thread's two keys. *Entries* is a hash. It has a field for each key of the state, named by
the key as JSON (so it starts with a quotation mark), and the fields ``size`` (of all entries,
in the document), ``next`` (the number of the next new entry),
``version`` (another after each change) and ``metadata``. The text of an entry is its number,
which gives the order of the keys, and

* ``=`` and the value, if it is small,
* ``*`` and its size, if it is large,
* ``[`` and the first and the last segment, the number of items and the size, for a list.

*Segments* is a sorted set without scores: each member is an entry's key as JSON, the
segment's number in ten digits, a colon and the body. So one range by prefix finds all of a
value, in order, without knowing more than its key. A large value has one segment, of number
0. Those of a list have its items, parted by line feeds.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script, and the name under which Redis keeps it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# ARGV: the TTL in milliseconds (0: none). Replies with the thread's version, and renews the
# thread once in a tenth of the time.
TOUCH = Script("""
local ttl = tonumber(ARGV[1])
local left = ttl > 0 and redis.call('PTTL', KEYS[1])
if left and (left < ttl * 0.9 or left > ttl) then
  -- Where nothing may be written now (a replica, a full disk), reading still can be done.
  redis.pcall('PEXPIRE', KEYS[1], ARGV[1])
  redis.pcall('PEXPIRE', KEYS[2], ARGV[1])
end
return redis.call('HGET', KEYS[1], 'version')
""")

DELETE = Script("""
-- A wrong type under either name is an error before anything is removed.
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
return redis.call('DEL', KEYS[1], KEYS[2])
""")

# ARGV: who wants the turn, and for how many milliseconds.
TAKE_TURN = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

END_TURN = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
""")

# ARGV: the TTL in milliseconds (0: none), the largest document, the metadata ("" keeps what
# is stored), the largest segment, a version that no other change has, and then the steps.
#
# Replies with the size of the document, negative when that was refused, and with the numbers
# of the runs of pushes that were skipped.
MERGE = Script(r"""
local entries_name, segments_name = KEYS[1], KEYS[2]
local ttl, limit, metadata, segment_bytes = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local at = 6
local function argument()
  at = at + 1
  return ARGV[at - 1]
end

local head = redis.call('HMGET', entries_name, 'size', 'next', 'metadata')
local size, following = tonumber(head[1] or '0'), tonumber(head[2] or '1')
local old_following, old_metadata = following, head[3] or '{}'
if metadata == '' then
  metadata = old_metadata
end
-- Segments without entries are left of a thread that was evicted; they are nobody's.
local cleared = redis.call('ZCARD', segments_name) > 0 and not head[1]

-- The lengths of '"state":{}', '"metadata":' and of braces and comma around them.
local function document(entries, metadata_bytes)
  local state = entries > 0 and entries + 9 or 0
  local other = metadata_bytes > 2 and metadata_bytes + 11 or 0
  if state == 0 and other == 0 then
    return 0
  end
  return 2 + state + other + (state > 0 and other > 0 and 1 or 0)
end

local before = document(size, #old_metadata)

-- What is known of entries (false: not there), which of them changed, the new bodies of
-- segments, and what is to be removed of those that are stored.
local entries, changed, bodies, removed = {}, {}, {}, {}

local function find(key)
  if entries[key] == nil then
    local text = not cleared and redis.call('HGET', entries_name, key)
    local entry = false
    if text then
      local number, kind, rest = string.match(text, '^(%d+) ([%[*])(.*)$')
      if kind == '*' then
        entry = {number = number, kind = kind, size = tonumber(rest), first = 0, last = 0}
      elseif kind then
        local first, last, items, bytes = string.match(rest, '^(%d+) (%d+) (%d+) (%d+)$')
        entry = {number = number, kind = kind, size = tonumber(bytes), items = tonumber(items),
                 first = tonumber(first), last = tonumber(last)}
      else
        number = string.match(text, '^(%d+) =')
        entry = {number = number, kind = '=', size = number and #text - #number - 2}
      end
      if not entry.size then
        error('DAMAGED')
      end
      entry.stored = true
    end
    entries[key] = entry
  end
  return entries[key]
end

local function name(key, number)
  return key .. string.format('%010d', number)
end

local function body_of(segment)
  if not bodies[segment] then
    local member = not removed[segment] and redis.call(
      'ZRANGEBYLEX', segments_name, '[' .. segment .. ':', '(' .. segment .. ';')[1]
    if not member then
      error('DAMAGED')
    end
    return string.sub(member, #segment + 2)
  end
  return bodies[segment]
end

local function replace(segment, body)
  removed[segment] = true
  bodies[segment] = body
end

local function drop(key, entry)
  for number = entry.first or 1, entry.last or 0 do
    bodies[name(key, number)] = nil
  end
  if entry.stored and entry.first then
    removed[key] = true
  end
end

local function add(key, entry)
  entry.number = following
  following = following + 1
  size = size + #key + 2 + entry.size
  entries[key] = entry
end

local function append(key, entry, items, body)
  local growth = #body
  if entry.last >= entry.first then
    growth = growth + 1
    local segment = name(key, entry.last)
    local tail = body_of(segment)
    if #tail + growth <= segment_bytes then
      replace(segment, tail .. '\n' .. body)
      body = nil
    end
  end
  if body then
    entry.last = entry.last + 1
    bodies[name(key, entry.last)] = body
  end
  entry.items = entry.items + items
  entry.size = entry.size + growth
  size = size + growth
end

local function keep_last(key, entry, records)
  local bytes = entry.size
  while entry.items > records do
    local segment = name(key, entry.first)
    local body = body_of(segment)
    local from = 1
    repeat
      local _, part = string.find(body, '\n', from, true)
      entry.items = entry.items - 1
      from = (part or #body + 1) + 1
    until entry.items <= records or not part
    entry.size = entry.size - (from - 1)
    if from > #body then
      replace(segment, nil)
      entry.first = entry.first + 1
    else
      replace(segment, string.sub(body, from))
    end
  end
  if entry.items == 0 then
    entry.size = 2  -- the last item to go had no comma behind it
  end
  size = size + entry.size - bytes
end

local steps, skipped = {}, {}

function steps.clear()
  size, cleared = 0, true
  entries, changed, bodies, removed = {}, {}, {}, {}
end

-- key
function steps.delete()
  local key = argument()
  local entry = find(key)
  if entry then
    size = size - (#key + 2) - entry.size
    drop(key, entry)
    entries[key], changed[key] = false, true
  end
end

-- key, whether only if missing, kind, size, items, number of bodies, bodies
function steps.set()
  local key, default, kind = argument(), argument(), argument()
  local bytes, items, pieces = tonumber(argument()), tonumber(argument()), tonumber(argument())
  local old = find(key)
  if old and default == '1' then
    at = at + pieces
    return
  end
  local entry = {kind = kind, size = bytes, items = items}
  if old then
    drop(key, old)
    size = size + bytes - old.size
    entry.number = old.number
    entries[key] = entry
  else
    add(key, entry)
  end
  if kind == '=' then
    entry.value = argument()
  else
    entry.first = kind == '[' and 1 or 0
    entry.last = entry.first + pieces - 1
    for number = entry.first, entry.last do
      bodies[name(key, number)] = argument()
    end
  end
  changed[key] = true
end

-- key, number of the run, window or "", number of bodies, and for each its items and itself
function steps.push()
  local key, run, records, pieces = argument(), argument(), argument(), tonumber(argument())
  local entry = find(key)
  if entry and entry.kind ~= '[' then
    skipped[#skipped + 1] = tonumber(run)
    at = at + 2 * pieces
    return
  end
  if not entry then
    entry = {kind = '[', size = 2, items = 0, first = 1, last = 0}
    add(key, entry)
  end
  for _ = 1, pieces do
    local items = tonumber(argument())
    append(key, entry, items, argument())
  end
  if records ~= '' then
    keep_last(key, entry, tonumber(records))
  end
  changed[key] = true
end

while at <= #ARGV do
  steps[argument()]()
end

local after = document(size, #metadata)
if after > limit and after >= before then
  return {-after}
end
table.insert(skipped, 1, after)

-- From here on it writes. The first write fails where Redis has no memory left, and is one
-- that may where the thread grows: whatever shrinks it is allowed even then.
if after > before then
  redis.call('HSET', entries_name, 'size', size)
else
  redis.call('HDEL', entries_name, '')
end
if cleared or after == 0 then
  redis.call('DEL', entries_name, segments_name)
end
if after == 0 then
  return skipped
end

local function in_batches(command, key, arguments)
  for first = 1, #arguments, 1000 do
    redis.call(command, key, unpack(arguments, first, math.min(first + 999, #arguments)))
  end
end

for prefix in pairs(removed) do
  redis.call('ZREMRANGEBYLEX', segments_name, '[' .. prefix, '(' .. prefix .. ';')
end
local members = {}
for segment, body in pairs(bodies) do
  members[#members + 1] = 0
  members[#members + 1] = segment .. ':' .. body
end
in_batches('ZADD', segments_name, members)

local fields, gone = {'size', size, 'version', ARGV[5]}, {}
if following ~= old_following or cleared then
  fields[5], fields[6] = 'next', following
end
if metadata ~= '{}' and (metadata ~= old_metadata or cleared) then
  fields[#fields + 1] = 'metadata'
  fields[#fields + 1] = metadata
elseif metadata ~= old_metadata then
  gone[1] = 'metadata'
end
for key in pairs(changed) do
  local entry = entries[key]
  if entry then
    local rest = entry.value or entry.size
    if entry.kind == '[' then
      rest = table.concat({entry.first, entry.last, entry.items, entry.size}, ' ')
    end
    fields[#fields + 1] = key
    fields[#fields + 1] = entry.number .. ' ' .. entry.kind .. rest
  else
    gone[#gone + 1] = key
  end
end
in_batches('HSET', entries_name, fields)
in_batches('HDEL', entries_name, gone)
if ttl == '0' then
  redis.call('PERSIST', entries_name)
  redis.call('PERSIST', segments_name)
else
  redis.call('PEXPIRE', entries_name, ttl)
  redis.call('PEXPIRE', segments_name, ttl)
end
return skipped
""")
