-- Decide what becomes of the steps, and write it.

if head.former then
  load_edits()
  edits.upgrade()
end
while next_argument <= last_argument do
  local step = argument()
  if not steps[step] then
    load_edits()
  end
  steps[step]()
  step_number = step_number + 1
  if step == 'adopt' and not adopted then
    return {'kept'}
  end
end
if #conflicts > 0 or metadata_conflict == 1 then
  return {'conflict', conflicts, metadata_conflict}
end
local size_after = document_size(head.size, metadata)
if size_after > limit and (adopted or size_after >= size_before) then
  return {'large', size_after}
end
local is_empty = size_after == 0

-- Whatever is under the names of what will be written must be what it should be. bodies: strings to
-- be written as a whole; patches: names, places and texts of those that are written in part.
local bodies, patches, dropped = {}, {}, {}

-- Decide how the string of a list is written. What was removed at its ends stays there until it is
-- more than what is left.
local function plan_list(name, list)
  local text = table.concat(list.pieces, '\n')
  local stop = list.from and list.upto + (list.added > 0 and #text + 1 or 0)
  local start = list.from and list.from - #list.head
  if not list.from or start + list.length - stop > stop - start then
    bodies[name] = '[' .. whole(name, list) .. ']'
    list.dead, list.tail = 1, 1
    return
  end
  if list.head ~= '' then
    patches[#patches + 1] = {name, start, list.head}
  end
  if list.added > 0 then
    text = '\n' .. text
  end
  patches[#patches + 1] = {name, list.upto, text .. ']'}
  list.dead, list.tail = start, math.max(1, list.length - stop)
end

local function plan(key, entry)
  local name = string_name(thread_name, key)
  if entry and entry.kind == '|' and entry.items > 0 then
    redis.call('STRLEN', name)
    verify(name, entry)
    plan_list(name, entry)
  elseif entry and entry.kind == '*' then
    redis.call('STRLEN', name)
    -- None where it is only taken over from the former format.
    bodies[name] = entry.value
  else
    if entry and entry.kind == '|' then
      entry.dead, entry.tail = 0, 0
    end
    if strings[key] then
      redis.call('STRLEN', name)
      dropped[#dropped + 1] = name
    end
  end
  if entry and entry.assigned then
    entry.stamp = version_text
  end
end

for _, name in ipairs(cleared and string_names(thread_name, cleared) or {}) do
  redis.call('STRLEN', name)
  dropped[#dropped + 1] = name
end
for key in pairs(changed) do
  plan(key, entries[key])
end

local id = string.sub(thread_name, #index_name + 2)
local indexes = is_empty and {} or index_names(index_name, metadata)
local left_behind, kept = {}, {}
for place, name in ipairs(indexes) do
  -- The index of all threads is what is written to first.
  kept[name] = place == 1 or redis.call('ZCARD', name)
end
if metadata ~= former_metadata or is_empty then
  for _, name in ipairs(index_names(index_name, former_metadata)) do
    if not kept[name] then
      redis.call('ZCARD', name)
      left_behind[#left_behind + 1] = name
    end
  end
end

head.version = version_text
if not adopted then
  local last = tonumber(head.updated)
  head.updated = now > last and clock or string.format('%.17g', last + math.max(1e-6, last * 2.3e-16))
end
local longer = not is_safe(tonumber(head.safe), ttl)
if longer then
  head.safe = string.format('%.17g', ttl > 0 and now + longest(ttl) / 1000 or 0)
end
if is_new and is_empty then
  return {'written', version_text, '', {}, counts, skipped}
end
