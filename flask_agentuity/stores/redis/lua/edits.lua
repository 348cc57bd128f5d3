-- Steps that only some writes have. The comments name their arguments.

-- the times of creation and update, the owner ("": none)
function steps.import()
  local created, updated, new_owner = argument(), argument(), argument()
  owner = new_owner ~= '' and new_owner or nil
  imported = is_new or tonumber(head.updated) < tonumber(updated)
  head.created, head.updated, head.born = created, updated, version_text
  steps.clear()
end

-- key, since, the expected value ("": the key is missing), the new value
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
  list.places = stored[1] == ARGV[2] and changes.places or {}
  take_out(key, list)
  if splice(string_name(thread_name, key), list, changes) then
    put_in(key, list)
  else
    conflict(key, false)
  end
end

-- a field and its value that no item may have, and the arguments of a push
function steps.unique()
  push(argument(), argument())
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

-- the new metadata with its index terms, and the expected metadata without
function steps.replace_metadata()
  local text, expected = argument(), argument()
  if not is_same(string.match(metadata, '^[^\n]*'), expected) then
    metadata_conflict = 1
  end
  metadata = text
end

edits = {contains = contains, upgrade = upgrade}
