-- Taking items out of lists.

-- Where the item begins in a text that has so many before it from a place on; past the end if there
-- is none.
local function item_start(text, before, from)
  local place = (from or 1) - 1
  for _ = 1, before do
    place = string.find(text, '\n', place + 1, true)
    if not place then
      return #text + 2
    end
  end
  return place + 1
end

-- Where the item begins in the string that has so many stored ones before it, from the beginning.
local function find_forward(name, list, before)
  local from, step = list.from, 512
  while from < list.upto do
    local text = redis.call('GETRANGE', name, from, math.min(from + step, list.upto) - 1)
    local place = 0
    repeat
      place = string.find(text, '\n', place + 1, true)
      before = place and before - 1 or before
    until not place or before == 0
    if place then
      return from + place
    end
    from, step = from + #text, step * 2
  end
  damaged()
end

-- The same for an item that is followed by so many minus one, from the end.
local function find_backward(name, list, behind)
  local upto, step = list.upto, 512
  while upto > list.from do
    local from = math.max(list.from, upto - step)
    local text = redis.call('GETRANGE', name, from, upto - 1)
    local places, place = {}, 0
    repeat
      place = string.find(text, '\n', place + 1, true)
      places[#places + 1] = place
    until not place
    if #places >= behind then
      return from + places[#places - behind + 1]
    end
    behind, upto, step = behind - #places, from, step * 2
  end
  damaged()
end

-- Where the stored item at an index begins in the string, found from the nearer end.
local function find_item(name, list, index)
  verify(name, list)
  local stored = list.items - list.added
  if index * 2 < stored then
    return index == 0 and list.from or find_forward(name, list, index)
  end
  return index == stored and list.upto + 1 or find_backward(name, list, stored - index)
end

-- Whether the items are those of the stored string and nothing else.
local function is_as_stored(list)
  return list.from and list.added == 0 and list.head == ''
end

-- Cut a list before an item, and return the text of the items from there on.
local function cut(name, list, index)
  if not is_as_stored(list) then
    local text = whole(name, list)
    local start = item_start(text, index)
    renew(list, index > 0 and string.sub(text, 1, start - 2) or '', index)
    return string.sub(text, start)
  end
  local start = find_item(name, list, index)
  local text = redis.call('GETRANGE', name, start, list.upto - 1)
  if index == 0 then
    renew(list, '', 0)
  else
    list.size = list.size - (list.upto - start + 1)
    list.upto, list.items = start - 1, index
  end
  return text
end

local function truncate(name, list, keep)
  local stored = list.items - list.added
  if keep >= list.items then
    return
  end
  if keep == 0 then
    renew(list, '', 0)
  elseif list.from and keep <= stored and list.head == '' then
    if list.added > 0 then
      list.size = list.size - 1 - #table.concat(list.pieces, '\n')
      list.pieces, list.added, list.items = {}, 0, stored
    end
    local stop = find_item(name, list, keep) - 1
    list.size, list.items = list.size - (list.upto - stop), keep
    list.upto = stop
  else
    cut(name, list, keep)
  end
end

-- Keep the first items and the last ones, so many records together.
local function keep_records(name, list, records, first)
  local surplus = list.items - records
  if surplus <= 0 then
    return
  end
  if first >= records then
    truncate(name, list, records)
    return
  end
  local stored = list.items - list.added
  if list.from and list.head == '' and first + surplus < stored then
    local start, stop = find_item(name, list, first + surplus), list.from
    if first > 0 then
      stop = find_item(name, list, first)
      list.head = redis.call('GETRANGE', name, list.from, stop - 1)
    end
    list.size, list.items = list.size - (start - stop), records
    list.from = start
    return
  end
  local text = whole(name, list)
  local stop = item_start(text, first)
  local kept = string.sub(text, 1, stop - 1) .. string.sub(text, item_start(text, first + surplus))
  renew(list, kept, records)
end
