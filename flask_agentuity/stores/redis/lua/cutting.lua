-- Finding, removing and replacing items of lists.

-- Where the item begins in a text that has so many before it.
local function item_start(text, before)
  local place = 0
  for _ = 1, before do
    place = string.find(text, '\n', place + 1, true) or damaged()
  end
  return place + 1
end

-- Where the item begins in the string that has so many of a segment before it, from the beginning.
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

-- Where the first of the last so many items of a segment begins in the string, from the end.
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

-- Where the item begins in the string that has so many of a segment before it: where the caller has
-- seen it, or else found from the nearer end.
local function find_item(name, list, segment, count)
  local seen, others = list.places and list.places[segment.first + count], segment.items - count
  if seen and redis.call('GETRANGE', name, seen - 1, seen - 1) == '\n' then
    return seen
  elseif count < others then
    return find_forward(name, segment, count)
  end
  return find_backward(name, segment, others)
end

-- The two parts of a segment, of which the first has so many items.
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

-- Let a segment begin with the item at an index, and return which one it is; one more than there
-- are for the end of the list.
local function split(name, list, index)
  verify(name, list)
  local before = 0
  for place, segment in ipairs(list.segments) do
    if index == before then
      return place
    elseif index < before + segment.items then
      local first, second = halves(name, list, segment, index - before)
      list.segments[place] = first
      table.insert(list.segments, place + 1, second)
      return place + 1
    end
    before = before + segment.items
  end
  return #list.segments + 1
end

-- Put other items, if any, in the place of those from an index to before another.
local function replace(name, list, first, stop, text, items)
  local place, last = split(name, list, first), split(name, list, stop)
  for _ = place, last - 1 do
    table.remove(list.segments, place)
  end
  if items > 0 then
    table.insert(list.segments, place, {text = text, items = items})
  end
  list.items, list.size = list.items - (stop - first) + items, 1
  for _, segment in ipairs(list.segments) do
    list.size = list.size + length_of(segment) + 1
  end
  list.size = math.max(2, list.size)
end

local function truncate(name, list, keep)
  if keep < list.items then
    replace(name, list, keep, list.items, '', 0)
  end
end

-- Keep the first items and the last ones, so many records together.
local function keep_records(name, list, records, first)
  local surplus = list.items - records
  if surplus > 0 then
    first = math.min(first, records)
    replace(name, list, first, first + surplus, '', 0)
  end
end
