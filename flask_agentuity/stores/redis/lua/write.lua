-- Run the steps, and plan what is written.

if head.former then
  load_edits()
  edits.upgrade()
end
while next_argument <= #ARGV do
  local step = argument()
  if not steps[step] then
    load_edits()
  end
  steps[step]()
  step_number = step_number + 1
  if step == 'import' and not imported then
    return {'kept'}
  end
end
if #conflicts > 0 or metadata_conflict == 1 then
  return {'conflict', conflicts, metadata_conflict}
end
local size_after = document_size(head.size, metadata)
if size_after > limit and (imported or size_after >= size_before) then
  return {'large', size_after}
end
-- A key and its value have at least 5 bytes.
if key_growth > 0 and head.size > most_keys * 5 and not imported then
  local keys_after = stored_keys() + key_growth
  if keys_after > most_keys then
    return {'keys', keys_after}
  end
end
local is_empty = size_after == 0

-- Planning raises an error if a key has a wrong type, before anything is written. bodies: new texts of
-- strings; patches: name, offset and text for parts of strings; dropped: names of strings.
local bodies, patches, dropped = {}, {}, {}

-- The offset of the first segment at which the fewest bytes must be moved, and the offsets of all
-- segments relative to it.
local function lay_out(list)
  local offsets, unmoved, offset = {}, {}, 0
  for place, segment in ipairs(list.segments) do
    local length = length_of(segment)
    if segment.from then
      local start = segment.from - offset
      unmoved[start] = (unmoved[start] or 0) + length
    end
    offsets[place], offset = offset, offset + length + 1
  end
  local start, most = 1, -1
  for candidate, bytes in pairs(unmoved) do
    if candidate > 0 and (bytes > most or bytes == most and candidate < start) then
      start, most = candidate, bytes
    end
  end
  return start, offsets
end

-- Plan the changes to the string of a list if its first item is at an offset.
local function patch_list(name, list, start, offsets)
  local in_place, last = false, #list.segments
  for place, segment in ipairs(list.segments) do
    local target = start + offsets[place]
    if segment.text then
      local before, behind = place > 1 and '\n' or '', place < last and '\n' or ']'
      patches[#patches + 1] = {name, target - #before, before .. segment.text .. behind}
    else
      local former = list.segments[place - 1]
      local moved = segment.from ~= target
      if moved then
        patches[#patches + 1] = {name, target, text_of(name, segment)}
      end
      if former and not former.text
        and not (in_place and not moved and former.upto + 1 == segment.from) then
        patches[#patches + 1] = {name, target - 1, '\n'}
      end
      if place == last then
        patches[#patches + 1] = {name, target + length_of(segment), ']'}
      end
      in_place = not moved
    end
  end
end

-- Removed bytes stay at the ends of a string until they are more than what is left.
local function plan_list(name, list)
  local start, offsets = lay_out(list)
  local bytes = list.size - 2
  local left = list.length and list.length - start - bytes or 0
  if not list.length or start - 1 + math.max(0, left - 1) > bytes then
    bodies[name] = '[' .. whole(name, list) .. ']'
    list.dead, list.tail = 1, 1
  else
    patch_list(name, list, start, offsets)
    list.dead, list.tail = start, math.max(1, left)
  end
end

local function plan(key, entry)
  local name = string_name(thread_name, key)
  if entry and entry.kind == '|' and entry.items > 0 then
    if entry.length then
      verify(name, entry)
    else
      redis.call('STRLEN', name)
    end
    plan_list(name, entry)
  elseif entry and entry.kind == '*' then
    redis.call('STRLEN', name)
    -- It has no new text if it was only converted from the former format.
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
local longer = not is_safe(tonumber(head.safe), ttl)
-- Only the indexes of all threads and of the owner are in the order of time. Those of other terms need
-- to be written only if the terms change, or to stay longer.
local same_terms = metadata == former_metadata and owner == former_owner and not is_empty
local indexes = index_names(index_name, not (same_terms and not longer) and metadata or nil, owner)
if is_empty then
  -- It is not listed, but it is still found by its owner to be erased.
  indexes = {owner and indexes[2]}
end
local left_behind, kept = {}, {}
for place, name in ipairs(indexes) do
  -- The index of all threads is written to first, so it need not be checked.
  kept[name] = place == 1 and not is_empty or redis.call('ZCARD', name)
end
if not same_terms then
  for _, name in ipairs(index_names(index_name, former_metadata, former_owner)) do
    if not kept[name] then
      redis.call('ZCARD', name)
      left_behind[#left_behind + 1] = name
    end
  end
end

head.version = version_text
if not imported then
  -- Also if the clock was set back: otherwise the thread would stay at the top of listings.
  head.updated = clock
end
if longer then
  head.safe = string.format('%.17g', ttl > 0 and now + longest(ttl) / 1000 or 0)
end
if is_new and is_empty and not owner then
  return {'written', version_text, '', {}, counts, skipped}
end
