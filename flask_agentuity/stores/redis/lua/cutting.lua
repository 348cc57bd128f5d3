-- Find, remove and replace items of lists.

-- The position of the item in a text that has this number of items before it.
local function item_start(text, before)
  local place = 0
  for _ = 1, before do
    place = string.find(text, '\n', place + 1, true) or damaged()
  end
  return place + 1
end

-- The offset of a segment's item that has this number of items before it, searched from the start.
local function find_forward(name, segment, before)
  local from, step = segment.from, 512
  while from < segment.upto do
    local text = redis.call('GETRANGE', name, from, math.min(from + step, segment.upto) - 1)
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

-- The offset of the first of this number of last items of a segment, searched from the end.
local function find_backward(name, segment, behind)
  local upto, step = segment.upto, 512
  while upto > segment.from do
    local from = math.max(segment.from, upto - step)
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

-- The offset of a segment's item that has this number of items before it: where the caller has seen
-- it, or searched from the nearer end.
local function find_item(name, list, segment, count)
  local seen, others = list.places and list.places[segment.first + count], segment.items - count
  if seen and redis.call('GETRANGE', name, seen - 1, seen - 1) == '\n' then
    return seen
  elseif count < others then
    return find_forward(name, segment, count)
  end
  return find_backward(name, segment, others)
end

-- Divide a segment in two, of which the first has this number of items.
local function halves(name, list, segment, count)
  local others = segment.items - count
  if segment.text then
    local start = item_start(segment.text, count)
    return {text = string.sub(segment.text, 1, start - 2), items = count},
      {text = string.sub(segment.text, start), items = others}
  end
  local start = find_item(name, list, segment, count)
  return {from = segment.from, upto = start - 1, first = segment.first, items = count},
    {from = start, upto = segment.upto, first = segment.first + count, items = others}
end

-- Make the item at an index the first of a segment, and return the number of the segment. For the end
-- of the list, it is one more than there are segments.
local function split(name, list, index)
  verify(name, list)
  if index == list.items then
    return #list.segments + 1
  end
  local place, before = 1, 0
  if index * 2 < list.items then
    while index >= before + list.segments[place].items do
      before, place = before + list.segments[place].items, place + 1
    end
  else
    place, before = #list.segments + 1, list.items
    repeat
      place = place - 1
      before = before - list.segments[place].items
    until before <= index
  end
  if index == before then
    return place
  end
  local first, second = halves(name, list, list.segments[place], index - before)
  list.segments[place] = first
  table.insert(list.segments, place + 1, second)
  return place + 1
end

-- Replace the items from index first to before index stop.
local function replace(name, list, first, stop, text, items)
  local place, last = split(name, list, first), split(name, list, stop)
  -- With a line feed behind each segment.
  local bytes = list.items > 0 and list.size - 1 or 0
  for _ = place, last - 1 do
    local segment = table.remove(list.segments, place)
    bytes = bytes - length_of(segment) - 1
    if list.count then
      list.count(list, text_of(name, segment), -1)
    end
  end
  if items > 0 then
    table.insert(list.segments, place, {text = text, items = items})
    bytes = bytes + #text + 1
    if list.count then
      list.count(list, text, 1)
    end
  end
  list.items, list.size = list.items - (stop - first) + items, math.max(2, bytes + 1)
end

local function truncate(name, list, keep)
  if keep < list.items then
    replace(name, list, keep, list.items, '', 0)
  end
end

-- Keep a number of first items and as many last items as make up the number of records.
local function keep_records(name, list, records, first)
  local surplus = list.items - records
  if surplus > 0 then
    first = math.min(first, records)
    replace(name, list, first, first + surplus, '', 0)
  end
end
