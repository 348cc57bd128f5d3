"""What runs inside Redis for one thread. A script decides everything before its first write, so
it happens as a whole or not at all.

A thread's own key is a hash, its *entries*: a field for each key of the state, named by the key
as JSON (so it starts with a quotation mark), ``metadata``, and ``thread``, which has

* the size of all entries in the document, and the number of the next new entry,
* the version: a number of its own after each change,
* when the thread was created and updated, in seconds,
* until when its strings and the indexes it is in will stay at least (0: for ever).

``nulls`` is there where any value may hold a null. ``metadata`` is its JSON and then, each on a
line of its own, the labels by which the thread can be found. The text of an entry is its number,
which gives the order of the keys, and

* ``=`` and the value, if it is small,
* ``*`` and its size, if it is large,
* ``[`` and its size, for a list,
* ``|``, its size, the number of items and where the first begins, for a list that was pushed to
  with a window.

What is large, and a list with any items, is a string of its own, named by the thread's key, a
dot and the key as JSON. A list's items are parted by commas there, or else by line feeds, which
encoded JSON has nowhere else: so the first items can be left behind without knowing JSON. They
stay in the string until they are half of it.

The index is a sorted set of the ids of threads by the time of their update, and one for each
label, which is named by the index's key, a dot and the label.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script, and the name under which Redis keeps it."""

    def __init__(self, *parts: str) -> None:
        self.text = "".join(parts)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest().encode()


# What a thread's keys are, and how long they stay. Only the hash decides whether the thread
# lives. The other keys stay longer, so that most changes need not renew them all.
_KEYS = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6

local function string_name(thread_name, key)
  return thread_name .. '.' .. key
end

local function has_string(text)
  local kind, size = string.match(text, '^%d+ ([%*%[|])(%d+)')
  return kind and not (kind == '[' and size == '2')
end

-- The names of all strings of a thread, from what HGETALL gives.
local function string_names(thread_name, fields)
  local names = {}
  for place = 1, #fields, 2 do
    if string.byte(fields[place]) == 34 and has_string(fields[place + 1]) then
      names[#names + 1] = string_name(thread_name, fields[place])
    end
  end
  return names
end

-- The indexes that a thread with this text of metadata is in.
local function index_names(index_name, text)
  local names = {index_name}
  for label in string.gmatch(text or '', '\\n([^\\n]+)') do
    names[#names + 1] = index_name .. '.' .. label
  end
  return names
end

local function longest(ttl)
  return ttl > 0 and math.ceil(ttl * 1.2) + 2 or 0
end

-- Whether what stays until then outlives a thread that is renewed now, and not by much.
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

-- An index is many threads': it stays as long as the one that stays longest, and then as long
-- again as an unused thread does, for a purge to find and count what has expired.
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
"""

_TOUCH = """
-- Renew a thread that was read. Where nothing may be written now (on a replica), reading still
-- can be done.
local function touch(thread_name, index_name, ttl)
  local stored = redis.call('HMGET', thread_name, 'thread', 'metadata')
  local head, updated, safe = string.match(stored[1] or '', '^(%S+ %S+ %S+ %S+ (%S+)) (%S+)$')
  if not head or type(redis.pcall('PEXPIRE', thread_name, ttl)) == 'table' then
    return
  end
  if is_safe(tonumber(safe), ttl) then
    return
  end
  local milliseconds = longest(ttl)
  for _, name in ipairs(string_names(thread_name, redis.call('HGETALL', thread_name))) do
    redis.call('PEXPIRE', name, milliseconds)
  end
  local id = string.sub(thread_name, #index_name + 2)
  for _, name in ipairs(index_names(index_name, stored[2])) do
    enter(name, id, updated, ttl, true)
  end
  safe = string.format('%.17g', now + milliseconds / 1000)
  redis.call('HSET', thread_name, 'thread', head .. ' ' .. safe)
end
"""

# KEYS: the thread, the index. ARGV: the TTL in milliseconds.
TOUCH = Script(_KEYS, _TOUCH, "touch(KEYS[1], KEYS[2], tonumber(ARGV[1]))")

# KEYS: the thread, the index. ARGV: the TTL in milliseconds (0: none), within which the thread is
# renewed ten times at the most. Replies with all fields, and with the keys that have strings,
# each followed by its own.
READ = Script(
    _KEYS,
    _TOUCH,
    """
local fields = redis.call('HGETALL', KEYS[1])
local strings = {}
for place = 1, #fields, 2 do
  if string.byte(fields[place]) == 34 and has_string(fields[place + 1]) then
    strings[#strings + 1] = fields[place]
    strings[#strings + 1] = redis.call('GET', string_name(KEYS[1], fields[place]))
  end
end
local ttl = tonumber(ARGV[1])
local left = ttl > 0 and redis.call('PTTL', KEYS[1])
if left and (left < ttl * 0.9 or left > ttl) then
  touch(KEYS[1], KEYS[2], ttl)
end
return {fields, strings}
""",
)

# KEYS: the thread, the index.
DELETE = Script(
    _KEYS,
    """
local fields = redis.call('HGETALL', KEYS[1])
local strings = string_names(KEYS[1], fields)
local indexes = index_names(KEYS[2], redis.call('HGET', KEYS[1], 'metadata'))
-- A wrong type under any of the names is an error before anything is removed.
for _, name in ipairs(strings) do
  redis.call('STRLEN', name)
end
for _, name in ipairs(indexes) do
  redis.call('ZCARD', name)
end
for _, name in ipairs(indexes) do
  redis.call('ZREM', name, string.sub(KEYS[1], #KEYS[2] + 2))
end
for _, name in ipairs(strings) do
  redis.call('DEL', name)
end
return redis.call('DEL', KEYS[1])
""",
)

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

# What most turns are: items for one list that is there, has no window and fits. It does what MERGE
# does, in half the time; where anything is not as usual, it has done nothing that MERGE would
# not do again.
_APPEND = r"""
local function append_items()
  local thread_name, index_name, name = KEYS[1], KEYS[2], KEYS[3]
  local stored = redis.call('HMGET', thread_name, 'thread', 'metadata', ARGV[4])
  local size, following, version, created, updated, safe = string.match(
    stored[1] or '', '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+)$')
  local number, bytes = string.match(stored[3] or '', '^(%d+) %[(%d+)$')
  if not (safe and number) or bytes == '2' or redis.call('STRLEN', name) ~= bytes - 2 then
    return
  end
  local ttl, limit, nulls = string.match(ARGV[1], '^(%d+) (%d+) %d+ (%d)$')
  local body, metadata = ',' .. ARGV[6], stored[2] or ''
  size = size + #body
  -- With all of the metadata and its labels, and what is around them.
  if size + #metadata + 23 > limit + 0 then
    return
  end
  local time = redis.call('TIME')
  local now, last = time[1] + time[2] / 1e6, tonumber(updated)
  local left = (safe - now) * 1000
  if ttl == '0' and safe ~= '0' or ttl ~= '0' and (left < ttl + 1 or left > ttl * 1.2 + 3) then
    return
  end
  updated = string.format('%.17g', math.max(now, last + math.max(1e-6, last * 2.3e-16)))
  local id, labels = string.sub(thread_name, #index_name + 2), {}
  if metadata ~= '' then
    for label in string.gmatch(metadata, '\n([^\n]+)') do
      labels[#labels + 1] = index_name .. '.' .. label
      redis.call('ZCARD', labels[#labels])
    end
  end
  if redis.call('ZADD', index_name, 'XX', 'CH', updated, id) == 0 then
    return
  end
  for _, label in ipairs(labels) do
    if redis.call('ZADD', label, 'XX', 'CH', updated, id) == 0 then
      return
    end
  end
  version = math.max(math.floor(now * 1e6), version + 1)
  local head = string.format(
    '%d %s %d %s %s %s', size, following, version, created, updated, safe)
  local fields = {'thread', head, ARGV[4], number .. ' [' .. bytes + #body}
  if nulls == '1' then
    fields[5], fields[6] = 'nulls', 1
  end
  redis.call('HSET', thread_name, unpack(fields))
  redis.call('APPEND', name, body)
  if ttl ~= '0' then
    redis.call('PEXPIRE', thread_name, ttl)
  end
  return true
end

if #ARGV == 6 and ARGV[2] == '' and ARGV[3] == 'push' and ARGV[5] == '' and append_items() then
  return {0}
end
"""

# KEYS: the thread, the index, the strings of the keys that the steps name, and the indexes of new
# labels. ARGV: the TTL in milliseconds (0: none), the largest document, how many of those keys
# there are and whether a null is in what comes (0 or 1), the text of the metadata ("" keeps what
# is stored), and the steps.
#
# Replies with 0 and the numbers of the pushes that were skipped; with the size of a document that
# is too large, negative; with nothing when the thread was to be adopted and is not older.
MERGE = Script(
    _APPEND,
    _KEYS,
    r"""
local thread_name, index_name, metadata = KEYS[1], KEYS[2], ARGV[2]
local ttl, limit, named, nulls = string.match(ARGV[1], '^(%d+) (%d+) (%d+) (%d)$')
ttl, limit = tonumber(ttl), tonumber(limit)
local at = 3
local function argument()
  at = at + 1
  return ARGV[at - 1]
end

-- As many entries as one call may name, and as most changes do, are fetched at once.
local texts, fetched = {}, {}
for place = 1, math.min(named, 100) do
  fetched[place] = string.sub(KEYS[2 + place], #thread_name + 2)
end
local stored = redis.call('HMGET', thread_name, 'thread', 'metadata', unpack(fetched))
for place, key in ipairs(fetched) do
  texts[key] = stored[2 + place]
end
local old_metadata = stored[2] or '{}'
-- Times stay the texts they are: a number could not be written as exactly in fewer digits.
local size, following, version, created, updated, safe = '0', '1', '0', false, '0', '-1'
if stored[1] then
  size, following, version, created, updated, safe = string.match(
    stored[1], '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+)$')
  if not safe then
    error('DAMAGED')
  end
elseif redis.call('EXISTS', thread_name) == 1 then
  error('DAMAGED')
end
size, following = tonumber(size), tonumber(following)
if metadata == '' then
  metadata = old_metadata
end

-- The lengths of '"state":{}', '"metadata":' and of braces and comma around them.
local function document(entries, text)
  local bytes = (string.find(text, '\n', 1, true) or #text + 1) - 1
  local state = entries > 0 and entries + 9 or 0
  local other = bytes > 2 and bytes + 11 or 0
  if state == 0 and other == 0 then
    return 0
  end
  return 2 + state + other + (state > 0 and other > 0 and 1 or 0)
end

local before = document(size, old_metadata)

-- What is known of entries (false: not there), which of them changed, which have a string now,
-- and the names of the strings of a state that is cleared.
local entries, changed, strings, cleared = {}, {}, {}, false

local function find(key)
  if entries[key] == nil then
    local text, entry = texts[key], false
    if cleared then
      text = false
    elseif text == nil then
      text = redis.call('HGET', thread_name, key)
    end
    if text then
      local number, kind, rest = string.match(text, '^(%d+) ([=%*%[|])(.*)$')
      if kind == '=' then
        entry = {number = number, kind = kind, size = #rest}
      elseif kind == '|' then
        local bytes, items, dead = string.match(rest, '^(%d+) (%d+) (%d+)$')
        entry = {number = number, kind = kind, size = tonumber(bytes), items = tonumber(items),
                 dead = tonumber(dead), pieces = {}}
      elseif kind then
        entry = {number = number, kind = kind, size = tonumber(rest), dead = 0, pieces = {}}
      end
      if not (entry and entry.size) then
        error('DAMAGED')
      end
      strings[key] = has_string(text)
      entry.new = not strings[key]
    end
    entries[key] = entry
  end
  return entries[key]
end

local function drop(key, entry)
  size = size - #key - 2 - entry.size
end

local function add(key, entry)
  if not entry.number then
    entry.number = following
    following = following + 1
  end
  size = size + #key + 2 + entry.size
  entries[key], changed[key] = entry, true
end

-- A list's string that is not as its entry says is not built upon.
local function verify(key, entry)
  if not entry.length then
    entry.length = redis.call('STRLEN', string_name(thread_name, key))
    if entry.length ~= entry.dead + entry.size - 2 then
      error('DAMAGED')
    end
  end
end

local function renew(entry, body)
  entry.new, entry.dead, entry.pieces = true, 0, {body}
end

-- The items of a list that are left.
local function whole(key, entry)
  local text = ''
  if not entry.new then
    text = redis.call('GETRANGE', string_name(thread_name, key), entry.dead, -1)
  end
  return text .. table.concat(entry.pieces)
end

local function append(key, entry, body, items)
  if entry.size == 2 then
    renew(entry, body)
    entry.size = 2 + #body
  else
    if not entry.new then
      verify(key, entry)
    end
    entry.pieces[#entry.pieces + 1] = entry.kind == '|' and '\n' or ','
    entry.pieces[#entry.pieces + 1] = body
    entry.size = entry.size + 1 + #body
  end
  if entry.items then
    entry.items = entry.items + items
  end
end

-- What only lists with a window need.
local function windows()
  -- Part items by line feeds instead of commas. Returns the number of items too.
  local function lines(text)
    local parts, depth, first, from = {}, 0, 1, 1
    while true do
      local found = string.find(text, depth == 0 and '[%[%]{}",]' or '[%[%]{}"]', from)
      if not found then
        break
      end
      local char = string.byte(text, found)
      if char == 34 then
        repeat
          found = string.find(text, '["\\]', found + 1)
          if not found then
            error('DAMAGED')
          end
          local ends = string.byte(text, found) == 34
          found = ends and found or found + 1
        until ends
      elseif char == 44 then
        parts[#parts + 1] = string.sub(text, first, found - 1)
        first = found + 1
      elseif char == 91 or char == 123 then
        depth = depth + 1
      else
        depth = depth - 1
      end
      from = found + 1
    end
    if depth ~= 0 then
      error('DAMAGED')
    end
    parts[#parts + 1] = string.sub(text, first)
    return table.concat(parts, '\n'), #parts
  end

  local function give_window(key, entry)
    if entry.kind == '[' then
      entry.kind, entry.items = '|', 0
      if entry.size > 2 then
        if not entry.new then
          verify(key, entry)
        end
        local body
        body, entry.items = lines(whole(key, entry))
        renew(entry, body)
      end
    end
  end

  -- Where an item begins that has so many before it in the string; nothing when none does.
  local function find_item(key, entry, surplus)
    local name, from, step = string_name(thread_name, key), entry.dead, 512
    while from < entry.length do
      local text = redis.call('GETRANGE', name, from, from + step - 1)
      local place = 0
      repeat
        place = string.find(text, '\n', place + 1, true)
        surplus = place and surplus - 1 or surplus
      until not place or surplus == 0
      if place then
        return from + place
      end
      from, step = from + #text, step * 2
    end
  end

  local function keep_last(key, entry, records)
    local surplus = entry.items - records
    if surplus <= 0 then
      return
    end
    entry.items = records
    if records == 0 then
      entry.kind, entry.items, entry.size, entry.dead = '[', nil, 2, 0
      entry.new, entry.pieces = true, {}
      return
    end
    local first = not entry.new and find_item(key, entry, surplus)
    if first then
      entry.size = entry.size - (first - entry.dead)
      entry.dead = first
      return
    end
    local text, from = whole(key, entry), 0
    for _ = 1, surplus do
      from = string.find(text, '\n', from + 1, true) or error('DAMAGED')
    end
    renew(entry, string.sub(text, from + 1))
    entry.size = 2 + #text - from
  end

  return {lines = lines, give = give_window, keep_last = keep_last}
end

local steps, runs, skipped, adopted = {}, 0, {0}, false

function steps.clear()
  if not cleared then
    cleared = string_names(thread_name, redis.call('HGETALL', thread_name))
  end
  size, entries, changed, strings = 0, {}, {}, {}
end

-- when it was created and updated
function steps.adopt()
  local its_created, its_updated = argument(), argument()
  adopted = not (stored[1] and tonumber(updated) >= tonumber(its_updated))
  created, updated = its_created, its_updated
  steps.clear()
end

-- key
function steps.delete()
  local key = argument()
  local entry = find(key)
  if entry then
    drop(key, entry)
    entries[key], changed[key] = false, true
  end
end

-- key, kind, value or items
function steps.set(only_if_missing)
  local key, kind, body = argument(), argument(), argument()
  local old = find(key)
  if old and only_if_missing then
    return
  end
  local entry = {kind = kind, size = #body, dead = 0, new = true, pieces = {body}}
  if kind == '[' then
    entry.size = entry.size + 2
  end
  if old then
    drop(key, old)
    entry.number = old.number
  end
  add(key, entry)
end

function steps.default()
  steps.set(true)
end

-- key, window and number of items or "", items (parted by line feeds where there is a window)
function steps.push()
  local key, numbers, body = argument(), argument(), argument()
  local records, items = string.match(numbers, '^(%d+) (%d+)$')
  runs = runs + 1
  local entry = find(key)
  if entry and not (entry.kind == '[' or entry.kind == '|') then
    skipped[#skipped + 1] = runs - 1
    return
  end
  if entry then
    drop(key, entry)
  else
    entry = {kind = '[', size = 2, dead = 0, new = true, pieces = {}}
  end
  local window = (records or entry.kind == '|') and windows()
  if records then
    window.give(key, entry)
  elseif window then
    body, items = window.lines(body)
  end
  append(key, entry, body, tonumber(items))
  if records then
    window.keep_last(key, entry, tonumber(records))
  end
  add(key, entry)
end

while at <= #ARGV do
  local step = argument()
  steps[step]()
  if step == 'adopt' and not adopted then
    return false
  end
end

local after = document(size, metadata)
if after > limit and (adopted or after >= before) then
  return {-after}
end

-- Whatever is under the names of what will be written must be what it should be.
local bodies, added, gone = {}, {}, cleared or {}
for _, name in ipairs(gone) do
  redis.call('STRLEN', name)
end
for key in pairs(changed) do
  local entry, name = entries[key], string_name(thread_name, key)
  if entry and entry.kind ~= '=' and (entry.kind == '*' or entry.size > 2) then
    if not entry.new and entry.dead * 2 > entry.length then
      renew(entry, whole(key, entry))
    end
    if entry.new then
      redis.call('STRLEN', name)
      bodies[name] = table.concat(entry.pieces)
    else
      added[name] = table.concat(entry.pieces)
    end
  elseif strings[key] then
    redis.call('STRLEN', name)
    gone[#gone + 1] = name
  end
end
local id = string.sub(thread_name, #index_name + 2)
local indexes, left_behind, kept = index_names(index_name, metadata), {}, {}
if after == 0 then
  indexes = {}
end
for place, name in ipairs(indexes) do
  -- That of all threads is what is written to first.
  kept[name] = place == 1 or redis.call('ZCARD', name)
end
if metadata ~= old_metadata or after == 0 then
  for _, name in ipairs(index_names(index_name, old_metadata)) do
    if not kept[name] then
      redis.call('ZCARD', name)
      left_behind[#left_behind + 1] = name
    end
  end
end

-- However clocks go, a change has another version and comes later than the one before.
version = math.max(math.floor(now * 1e6), version + 1)
if not adopted then
  local last = tonumber(updated)
  updated = string.format('%.17g', math.max(now, last + math.max(1e-6, last * 2.3e-16)))
end
local longer = not is_safe(tonumber(safe), ttl)
if longer then
  safe = string.format('%.17g', ttl > 0 and now + longest(ttl) / 1000 or 0)
end

-- From here on it writes. The first write fails where Redis has no memory left, and is one
-- that may where the thread grows: whatever shrinks it is allowed even then.
if after <= before then
  redis.call('HDEL', thread_name, '')
end
local function leave()
  for _, name in ipairs(gone) do
    redis.call('DEL', name)
  end
  for _, name in ipairs(left_behind) do
    redis.call('ZREM', name, id)
  end
end
if after == 0 then
  leave()
  redis.call('DEL', thread_name)
  return skipped
end

local entered = {}
for _, name in ipairs(indexes) do
  if enter(name, id, updated, ttl, longer) then
    entered[#entered + 1] = name
  end
end
if cleared then
  redis.call('DEL', thread_name)
end

local head = string.format(
  '%d %d %d %s %s %s', size, following, version, created or updated, updated, safe)
local fields, removed = {'thread', head}, {}
if metadata ~= '{}' and (metadata ~= old_metadata or cleared) then
  fields[3], fields[4] = 'metadata', metadata
elseif metadata ~= old_metadata then
  removed[1] = 'metadata'
end
if nulls == '1' then
  fields[#fields + 1], fields[#fields + 2] = 'nulls', 1
end
for key in pairs(changed) do
  local entry = entries[key]
  if entry then
    local rest = entry.size
    if entry.kind == '=' then
      rest = entry.pieces[1]
    elseif entry.kind == '|' then
      rest = table.concat({entry.size, entry.items, entry.dead}, ' ')
    end
    fields[#fields + 1] = key
    fields[#fields + 1] = entry.number .. ' ' .. entry.kind .. rest
  else
    removed[#removed + 1] = key
  end
end
local function in_batches(command, arguments)
  for first = 1, #arguments, 1000 do
    redis.call(command, thread_name, unpack(arguments, first, math.min(first + 999, #arguments)))
  end
end
in_batches('HSET', fields)
in_batches('HDEL', removed)
expire(thread_name, ttl)
leave()

local milliseconds = ttl > 0 and math.ceil((safe - now) * 1000) or 0
for name, body in pairs(bodies) do
  -- Never by appending: something may be left there of a thread that has expired.
  redis.call('SET', name, body)
  if ttl > 0 then
    redis.call('PEXPIRE', name, milliseconds)
  end
end
for name, body in pairs(added) do
  redis.call('APPEND', name, body)
end
if longer then
  for _, name in ipairs(string_names(thread_name, redis.call('HGETALL', thread_name))) do
    expire(name, milliseconds)
  end
end

-- Threads expire without telling the index. Whoever enters looks whether the last one and a few
-- at random are still there: so what is gone stays a small part of it.
local function sweep(name)
  local members = redis.call('ZRANGE', name, 0, 0)
  local place = time[2] * 7919 % redis.call('ZCARD', name)
  for _, member in ipairs(redis.call('ZRANGE', name, place, place + 2)) do
    members[#members + 1] = member
  end
  for _, member in ipairs(members) do
    if redis.call('EXISTS', index_name .. ':' .. member) == 0 then
      redis.call('ZREM', name, member)
    end
  end
end

for _, name in ipairs(entered) do
  sweep(name)
end
return skipped
""",
)
