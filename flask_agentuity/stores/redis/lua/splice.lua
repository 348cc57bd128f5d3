-- Replace parts of a list if the expected items are there.

-- Whether a text is the expected one, which is given as it is, or as "#", its length and its SHA-1.
local function is_same(text, expected)
  local length, digest = string.match(expected, '^#(%d+) (%x+)$')
  if not length then
    return text == expected
  end
  return #text == length + 0 and redis.sha1hex(text) == digest
end

local function expected_length(expected)
  return tonumber(string.match(expected, '^#(%d+) ') or #expected)
end

-- Take the changes of a splice from the arguments: for each its index, the offset in the string ("" if
-- it is not known), the number of expected items and their text, the number of new items and their
-- text.
local function read_changes(count)
  local changes = {places = {}}
  for number = 1, count do
    local place, from = tonumber(argument()), tonumber(argument())
    changes.places[place] = from
    changes[number] = {place = place, items = tonumber(argument()), gone = argument(),
                       added = tonumber(argument()), new = argument()}
  end
  return changes
end

-- Whether the items from index first to before index stop are the expected ones.
local function has_items(name, list, first, stop, expected)
  local place, last = split(name, list, first), split(name, list, stop)
  local length, parts = last - place - 1, {}
  for index = place, last - 1 do
    length = length + length_of(list.segments[index])
  end
  if length ~= expected_length(expected) then
    return false
  end
  for index = place, last - 1 do
    parts[#parts + 1] = text_of(name, list.segments[index])
  end
  return is_same(table.concat(parts, '\n'), expected)
end

-- Returns whether the expected items were there. If not, the list must not be used further.
local function splice(name, list, changes)
  local shift, last = 0, 0
  for _, change in ipairs(changes) do
    local first = change.place + shift
    local stop = first + change.items
    if change.place < last or stop > list.items
      or not has_items(name, list, first, stop, change.gone) then
      return false
    end
    replace(name, list, first, stop, change.new, change.added)
    shift, last = shift + change.added - change.items, change.place + change.items
  end
  return true
end
