-- The operations, as steps on what is known of the thread. Nothing is written here: the steps only
-- decide. They take their arguments from ARGV, one after the other.

-- What is known of entries (false: missing), which of them are to be written, which have a string
-- now, and the fields of a state that was cleared.
local entries, changed, strings, cleared = {}, {}, {}, nil
-- Keys with a conflict, each followed by whether it was assigned; the lengths of lists before they
-- were pushed to (-1: not a list); the numbers of skipped steps.
local conflicts, counts, skipped = {}, {}, {}
-- all_known: there are no entries besides those in the table.
local steps, step_number, all_known, adopted, metadata_conflict = {}, 0, false, false, 0

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

-- An entry that is to be changed is taken out of the size, and put in again.
local function take_out(key, entry)
  head.size = head.size - #key - 2 - entry.size
end

local function put_in(key, entry)
  if not entry.number then
    entry.number = head.following
    head.following = head.following + 1
  end
  head.size = head.size + #key + 2 + entry.size
  entries[key], changed[key] = entry, true
end

-- Let a key have another value in the place and with the stamp of the one before.
local function assign(key, former, entry)
  if former then
    take_out(key, former)
    entry.number, entry.stamp = former.number, former.stamp
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

-- kind, number of items (0 for what is no list), text
local function read_value()
  local kind, items, text = argument(), tonumber(argument()), argument()
  if kind == '|' then
    return renew(new_list(), text, items)
  end
  return {kind = kind, stamp = '0', size = #text, value = text}
end

-- A thread of the former format is read as a whole, and written as a whole in this one.
local function upgrade()
  local fields = redis.call('HGETALL', thread_name)
  for place = 1, #fields, 2 do
    local key, text = fields[place], fields[place + 1]
    if string.byte(key) == 34 then
      entries[key], changed[key] = parse_former(string_name(thread_name, key), text), true
      strings[key] = has_string(text)
    end
  end
  all_known = true
end

function steps.clear()
  cleared = cleared or redis.call('HGETALL', thread_name)
  head.size, entries, changed, strings, all_known = 0, {}, {}, {}, true
end

-- when it was created and updated
function steps.adopt()
  local created, updated = argument(), argument()
  adopted = is_new or tonumber(head.updated) < tonumber(updated)
  head.created, head.updated, head.born = created, updated, version_text
  steps.clear()
end

-- key
function steps.delete()
  local key = argument()
  local entry = find(key)
  if entry then
    take_out(key, entry)
    entries[key], changed[key] = false, true
  end
end

-- key, value
function steps.set()
  local key, entry = argument(), read_value()
  assign(key, find(key), entry).assigned = true
end

-- key, value: if the key is missing
function steps.default()
  local key, entry = argument(), read_value()
  if not find(key) then
    put_in(key, entry)
  end
end

-- key, since, the former value ("": the key is missing), value
function steps.replace()
  local key, since, expected, entry = argument(), argument(), argument(), read_value()
  local former = find(key)
  local is_assigned = assigned_after(former, since)
  if is_assigned or not has_value(string_name(thread_name, key), former, expected) then
    conflict(key, is_assigned)
  else
    assign(key, former, entry)
  end
end

-- key, since, number of changes, changes
function steps.splice()
  local key, since, changes = argument(), argument(), read_changes(argument())
  local list = find(key)
  local is_assigned = assigned_after(list, since)
  if is_assigned or not is_list(list) then
    conflict(key, is_assigned)
    return
  end
  take_out(key, list)
  if splice(string_name(thread_name, key), list, changes) then
    put_in(key, list)
  else
    conflict(key, false)
  end
end

-- key, number of items with the records to keep and how many of the first ones among them, items
local function push(field)
  local key, numbers, items = argument(), argument(), argument()
  local count, records, first = string.match(numbers, '^(%d+) ?(%d*) ?(%d*)$')
  local list, name = find(key), string_name(thread_name, key)
  counts[#counts + 1] = not list and 0 or is_list(list) and list.items or -1
  if list and not is_list(list) then
    skip()
    return
  elseif list and field and contains(name, list, field) then
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

-- a field with the value that no item may have yet, and a push of one item
function steps.unique()
  push(argument())
end

local function shorten(key, keep_of)
  local list = find(key)
  if is_list(list) then
    take_out(key, list)
    truncate(string_name(thread_name, key), list, keep_of(list.items))
    put_in(key, list)
  elseif list then
    skip()
  end
end

-- key, number of items
function steps.truncate()
  local key, keep = argument(), tonumber(argument())
  shorten(key, function()
    return keep
  end)
end

-- key
function steps.pop()
  shorten(argument(), function(items)
    return math.max(0, items - 1)
  end)
end

-- key, number
function steps.increment()
  local key, by = argument(), argument()
  local entry = find(key)
  local former = entry and (entry.kind == '=' and entry.value or '') or '0'
  if not string.match(former, '^[%-%d]') then
    skip()
    return
  end
  local sum = exact_sum(former, by)
  if sum then
    assign(key, entry, {kind = '=', stamp = '0', size = #sum, value = sum})
  else
    conflict(key, false)
  end
end

-- the metadata with its labels, and the former one without ("": whatever it is)
function steps.metadata()
  local text, expected = argument(), argument()
  if expected ~= '' and not is_same(string.match(metadata, '^[^\n]*'), expected) then
    metadata_conflict = 1
  end
  metadata = text
end
