"""What runs inside Redis: one script for reading a thread, one for merging, one for deleting.

Each is given the names of the thread's two hashes. A script that writes decides everything
before its first write, so it happens as a whole or not at all.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script, and the name under which Redis keeps it."""

    def __init__(self, text: str, *, changes: bool) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        #: Whether running it again may do more than running it once.
        self.changes = changes


# What the scripts share. A field of the first hash is ">" and a key of the state; its text
# is the entry's number, a kind ("=" inline, "*" large, "[" list), and for an inline entry
# the value, for a large one its size, for a list its first and last segment, items and size.
# A segment's field is the entry's number and its own.
_COMMON = """
local thread, segments = KEYS[1], KEYS[2]
-- A wrong type under either name is an error before anything else is done.
local stored, parts = redis.call('HLEN', thread), redis.call('HLEN', segments)

local function parse(text)
  local number, kind, rest = string.match(text, '^(%d+) ([%[*])(.*)$')
  if not number then
    number = string.match(text, '^(%d+) =') or error('DAMAGED')
    return {number = number, kind = '=', size = #text - #number - 2}
  elseif kind == '*' then
    return {number = number, kind = kind, size = tonumber(rest), first = 0, last = 0}
  end
  local first, last, items, size = string.match(rest, '^(%d+) (%d+) (%d+) (%d+)$')
  return {number = number, kind = kind, size = tonumber(size), items = tonumber(items),
          first = tonumber(first), last = tonumber(last)}
end

local function in_batches(command, key, arguments)
  for first = 1, #arguments, 1000 do
    redis.call(command, key, unpack(arguments, first, math.min(first + 999, #arguments)))
  end
end
"""

# ARGV: the TTL in milliseconds (0: none), then "all", or "keys" and the keys wanted.
# The reply is one string and the lengths of its parts: a client takes far longer to parse
# many replies than one.
_READ = (
    _COMMON
    + """
if stored == 0 then
  return false
end
local ttl = tonumber(ARGV[1])
if ttl > 0 then
  local left = redis.call('PTTL', thread)
  if left < ttl * 0.9 or left > ttl then
    -- Where nothing may be written now (a replica, a full disk), reading still can be done.
    redis.pcall('PEXPIRE', thread, ttl)
    redis.pcall('PEXPIRE', segments, ttl)
  end
end
local all, wanted = ARGV[2] == 'all', {}
for index = 3, #ARGV do
  wanted['>' .. ARGV[index]] = true
end

local lengths, reply = {}, {}
local function add(text)
  lengths[#lengths + 1] = #text
  reply[#reply + 1] = text
end

local function add_segments(entry)
  local length = 0
  for first = entry.first, entry.last, 1000 do
    local names = {}
    for number = first, math.min(first + 999, entry.last) do
      names[#names + 1] = entry.number .. ':' .. number
    end
    for _, body in ipairs(redis.call('HMGET', segments, unpack(names))) do
      if not body then
        return false
      end
      if length > 0 then
        reply[#reply + 1] = '\\n'
        length = length + 1
      end
      reply[#reply + 1] = body
      length = length + #body
    end
  end
  lengths[#lengths + 1] = length
  return true
end

local fields = redis.call('HGETALL', thread)
for index = 1, #fields, 2 do
  local field, text = fields[index], fields[index + 1]
  add(field)
  add(text)
  local entry = (all and string.sub(field, 1, 1) == '>' or wanted[field]) and parse(text)
  if not entry or entry.kind == '=' then
    lengths[#lengths + 1] = -1
  elseif not add_segments(entry) then
    error('DAMAGED')
  end
end
return {table.concat(lengths, ' '), table.concat(reply)}
"""
)

# ARGV: the TTL in milliseconds (0: none), the largest document, the metadata ("" keeps what
# is stored), the largest segment, and then the steps that _arguments() lays out.
# Replies with the size of the document, negative when it was refused, and the numbers of
# the runs of pushes that were skipped.
_MERGE = (
    _COMMON
    + """
local ttl, limit, metadata, segment_bytes = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local head = redis.call('HMGET', thread, 'size', 'next', 'metadata')
local size, following = tonumber(head[1] or '0'), tonumber(head[2] or '1')
local old_metadata = head[3] or '{}'
if metadata == '' then
  metadata = old_metadata
end

local function document(entries, metadata_size)
  local state = entries > 0 and entries + 9 or 0
  local other = metadata_size > 2 and metadata_size + 11 or 0
  if state == 0 and other == 0 then
    return 0
  end
  return 2 + state + other + (state > 0 and other > 0 and 1 or 0)
end

local before = document(size, #old_metadata)
local next_before = following
-- What was evicted by itself or is left of an evicted thread must not be taken for ours.
local cleared = stored == 0 and parts > 0
local entries, changed, written = {}, {}, {}

local function find(key)
  if entries[key] == nil then
    local text = not cleared and redis.call('HGET', thread, '>' .. key)
    entries[key] = text and parse(text) or false
  end
  return entries[key]
end

local function segment(field)
  local body = written[field]
  if body == nil and not cleared then
    body = redis.call('HGET', segments, field)
  end
  return body or error('DAMAGED')
end

local function drop(entry)
  for number = entry.first or 1, entry.last or 0 do
    written[entry.number .. ':' .. number] = false
  end
end

local function add(key, overhead, entry)
  entry.number = following
  following = following + 1
  size = size + overhead + entry.size
  entries[key] = entry
  return entry
end

local function append(entry, items, body)
  local growth = #body
  local field = entry.number .. ':' .. entry.last
  local tail = entry.last >= entry.first and segment(field)
  if tail then
    growth = growth + 1
  end
  if tail and #tail + 1 + #body <= segment_bytes then
    written[field] = tail .. '\\n' .. body
  else
    entry.last = entry.last + 1
    written[entry.number .. ':' .. entry.last] = body
  end
  entry.items = entry.items + items
  entry.size = entry.size + growth
  size = size + growth
end

local function keep_last(entry, records)
  local before = entry.size
  while entry.items > records do
    local field = entry.number .. ':' .. entry.first
    local body = segment(field)
    local from = 1
    while entry.items > records do
      local parted = string.find(body, '\\n', from, true)
      entry.items = entry.items - 1
      from = parted and parted + 1 or #body + 2
      if not parted then
        break
      end
    end
    entry.size = entry.size - (from - 1)
    if from > #body then
      written[field] = false
      entry.first = entry.first + 1
    else
      written[field] = string.sub(body, from)
    end
  end
  if entry.items == 0 then
    entry.size = 2  -- the last item to go has no comma behind it
  end
  size = size + entry.size - before
end

local skipped = {}
local at = 5
local function argument()
  at = at + 1
  return ARGV[at - 1]
end

while at <= #ARGV do
  local step = argument()
  if step == 'clear' then
    size, cleared = 0, true
    entries, changed, written = {}, {}, {}
  else
    local key, overhead = argument(), tonumber(argument())
    local entry = find(key)
    if step == 'delete' then
      if entry then
        size = size - overhead - entry.size
        drop(entry)
        entries[key], changed[key] = false, true
      end
    elseif step == 'push' then
      local run, records, pieces = argument(), argument(), tonumber(argument())
      if entry and entry.kind ~= '[' then
        skipped[#skipped + 1] = tonumber(run)
        at = at + 2 * pieces
      else
        entry = entry or add(key, overhead, {kind = '[', size = 2, items = 0, first = 1, last = 0})
        for _ = 1, pieces do
          local items = tonumber(argument())
          append(entry, items, argument())
        end
        if records ~= '' then
          keep_last(entry, tonumber(records))
        end
        changed[key] = true
      end
    else
      local kind, bytes, items, pieces = argument(), tonumber(argument()), tonumber(argument()),
                                         tonumber(argument())
      if entry and step == 'default' then
        at = at + pieces
      else
        local new = {kind = kind, size = bytes, items = items}
        if entry then
          size = size + bytes - entry.size
          drop(entry)
          new.number = entry.number
          entries[key] = new
        else
          add(key, overhead, new)
        end
        if kind == '=' then
          new.value = argument()
        else
          new.first = kind == '[' and 1 or 0
          new.last = new.first - 1
          for _ = 1, pieces do
            new.last = new.last + 1
            written[new.number .. ':' .. new.last] = argument()
          end
        end
        changed[key] = true
      end
    end
  end
end

local after = document(size, #metadata)
if after > limit and after >= before then
  return {-after}
end

-- From here on it writes. The first write says whether Redis has the memory: growing needs
-- it, all else does not.
if after > before then
  redis.call('HSET', thread, 'size', size)
else
  redis.call('HDEL', thread, '')
end
if cleared or after == 0 then
  redis.call('DEL', thread, segments)
end
table.insert(skipped, 1, after)
if after == 0 then
  return skipped
end
local put, gone = {}, {}
for field, body in pairs(written) do
  if body then
    put[#put + 1] = field
    put[#put + 1] = body
  else
    gone[#gone + 1] = field
  end
end
in_batches('HSET', segments, put)
in_batches('HDEL', segments, gone)
put, gone = {'size', size}, {}
if following ~= next_before or cleared then
  put[#put + 1] = 'next'
  put[#put + 1] = following
end
if metadata ~= '{}' and (metadata ~= old_metadata or cleared) then
  put[#put + 1] = 'metadata'
  put[#put + 1] = metadata
elseif metadata ~= old_metadata then
  gone[1] = 'metadata'
end
for key in pairs(changed) do
  local entry = entries[key]
  if entry then
    local text = entry.number .. ' ' .. entry.kind
    if entry.kind == '=' then
      text = text .. entry.value
    elseif entry.kind == '*' then
      text = text .. entry.size
    else
      text = text .. table.concat({entry.first, entry.last, entry.items, entry.size}, ' ')
    end
    put[#put + 1] = '>' .. key
    put[#put + 1] = text
  else
    gone[#gone + 1] = '>' .. key
  end
end
in_batches('HSET', thread, put)
in_batches('HDEL', thread, gone)
for _, name in ipairs({thread, segments}) do
  if ttl == '0' then
    redis.call('PERSIST', name)
  else
    redis.call('PEXPIRE', name, ttl)
  end
end
return skipped
"""
)

_DELETE = _COMMON + "return redis.call('DEL', thread, segments)"

READ = Script(_READ, changes=False)
MERGE = Script(_MERGE, changes=True)
DELETE = Script(_DELETE, changes=False)
