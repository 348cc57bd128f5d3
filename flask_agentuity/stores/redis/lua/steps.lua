-- The steps of a write. They change tables only; nothing is written here. The comments name their
-- arguments, which they take from ARGV.

-- By key: entries (false: missing), whether they must be written, and whether they have a stored
-- string. cleared has the fields of a state that was cleared.
local entries, changed, strings, cleared = {}, {}, {}, nil
-- Keys with a conflict, each followed by 1 if it was assigned; for each push the length of the list
-- before it (-1: not a list); the numbers of skipped steps.
local conflicts, counts, skipped = {}, {}, {}
-- all_known: whether all entries of the thread are in the table.
-- key_growth: by how many keys the state has grown.
local key_growth = 0
local steps, step_number, all_known, imported, metadata_conflict = {}, 0, false, false, 0
-- load_edits defines the functions that few steps need, and puts some of them into edits.
local edits, load_edits = nil, nil

local function find(key)
  if entries[key] == nil then
    local text = fetched[key]
    if all_known then
      text = false
    elseif text == nil then
      text = redis.call('HGET', thread_name, key)
    end
    entries[key] = text and parse_entry(text)
    strings[key] = text and has_string(text)
  end
  return entries[key]
end

-- An entry is subtracted from the size before it is changed, and added again afterwards.
local function take_out(key, entry)
  head.size = head.size - #key - 2 - entry.size
end

local function put_in(key, entry)
  if not entry.number then
    entry.number = head.following
    head.following = head.following + 1
    key_growth = key_growth + 1
  end
  head.size = head.size + #key + 2 + entry.size
  entries[key], changed[key] = entry, true
end

-- Replace the value of a key. It keeps its place in the order of keys and its stamp.
local function assign(key, former, entry)
  if former then
    take_out(key, former)
    entry.number, entry.stamp, entry.assigned = former.number, former.stamp, former.assigned
  end
  put_in(key, entry)
  return entry
end

local function assigned_after(entry, since)
  return entry and tonumber(entry.stamp) > tonumber(since)
end

local function conflict(key, is_assigned)
  conflicts[#conflicts + 1] = key
  conflicts[#conflicts + 1] = is_assigned and 1 or 0
end

local function skip()
  skipped[#skipped + 1] = step_number
end

-- kind, number of items (0 if it is not a list), text
local function read_value()
  local kind, items, text = argument(), tonumber(argument()), argument()
  if kind == '|' then
    return renew(new_list(), text, items)
  end
  return {kind = kind, stamp = '0', size = #text, value = text}
end

local function stored_keys()
  local count = redis.call('HLEN', thread_name) - redis.call('HEXISTS', thread_name, 'nulls')
  -- Those of the fields that are not keys; see scripts.py.
  for place = 1, 6 do
    count = count - (stored[place] and 1 or 0)
  end
  return count
end

function steps.clear()
  cleared = cleared or redis.call('HGETALL', thread_name)
  key_growth = -stored_keys()
  head.size, entries, changed, strings, all_known = 0, {}, {}, {}, true
end

-- key
function steps.delete()
  local key = argument()
  local entry = find(key)
  if entry then
    take_out(key, entry)
    entries[key], changed[key] = false, true
    key_growth = key_growth - 1
  end
end

-- key, value
function steps.set()
  local key, entry = argument(), read_value()
  assign(key, find(key), entry).assigned = true
end

-- key, value; for a missing key only
function steps.default()
  local key, entry = argument(), read_value()
  if not find(key) then
    put_in(key, entry)
  end
end

-- key; number of items, followed by the number of records and of first records to keep; items
local function push(field, value)
  local key, numbers, items = argument(), argument(), argument()
  local count, records, first = string.match(numbers, '^(%d+) ?(%d*) ?(%d*)$')
  local list, name = find(key), string_name(thread_name, key)
  counts[#counts + 1] = not list and 0 or is_list(list) and list.items or -1
  if list and not is_list(list) then
    skip()
    return
  elseif list and field and edits.contains(name, list, field, value) then
    return
  elseif list then
    take_out(key, list)
  else
    list = new_list()
  end
  append(name, list, items, tonumber(count))
  if records ~= '' then
    keep_records(name, list, tonumber(records), tonumber(first))
  end
  put_in(key, list)
end

function steps.push()
  push()
end

-- the same, and arguments for push.lua
function steps.prepared()
  push()
  next_argument = #ARGV + 1
end

-- the metadata with its index terms
function steps.metadata()
  metadata = argument()
end
