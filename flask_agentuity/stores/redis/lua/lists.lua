-- Lists. The string of a list is an opening bracket, the items with line feeds between them, and a
-- closing bracket. Encoded JSON has no other line feeds. Removed items may stay at both ends of the
-- string, so the entry says at which offset the first item is (dead), and how many bytes follow the
-- last item (tail; the first of them is always the bracket).
--
-- As a table, a list consists of segments, each with a number of items. A segment is either a part of
-- the stored string, from offset from to before offset upto (first is the index that its first item
-- had), or a new text. See unique.lua for what indexes and count are.

local function damaged()
  error('DAMAGED')
end

local function new_list()
  return {kind = '|', stamp = '0', size = 2, items = 0, segments = {}}
end

local function open_list(entry, size, items, dead, tail)
  local list = new_list()
  list.number, list.stamp, list.size, list.items = entry.number, entry.stamp, size + 0, items + 0
  if list.items > 0 then
    local upto = dead + size - 2
    list.segments[1] = {from = dead + 0, upto = upto, first = 0, items = list.items}
    list.length = upto + tail
  end
  return list
end

local function is_list(entry)
  return entry and entry.kind == '|'
end

-- Raise an error if the string does not have the length that the entry says.
local function verify(name, list)
  if list.length and not list.verified then
    if redis.call('STRLEN', name) ~= list.length then
      damaged()
    end
    list.verified = true
  end
end

local function length_of(segment)
  return segment.text and #segment.text or segment.upto - segment.from
end

local function text_of(name, segment)
  return segment.text or redis.call('GETRANGE', name, segment.from, segment.upto - 1)
end

-- Give a list new items, so that its string is replaced.
local function renew(list, text, items)
  list.segments = items > 0 and {{text = text, items = items}} or {}
  list.size, list.items, list.length = #text + 2, items, nil
  list.indexes, list.count = nil, nil
  return list
end

-- The text of all items, with line feeds between them.
local function whole(name, list)
  verify(name, list)
  local parts = {}
  for place, segment in ipairs(list.segments) do
    parts[place] = text_of(name, segment)
  end
  return table.concat(parts, '\n')
end

local function append(name, list, text, items)
  verify(name, list)
  list.segments[#list.segments + 1] = {text = text, items = items}
  if list.count then
    list.count(list, text, 1)
  end
  list.size = list.size + #text + (list.items > 0 and 1 or 0)
  list.items = list.items + items
end
