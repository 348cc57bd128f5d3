-- Search lists for objects whose field has a value. A list that is searched often has indexes: for a
-- field, how many items have each value of it. Its function count keeps them up to date.

-- Searches of a list, which cost its length, before an index of the field is made.
local most_searches = 8

-- Count the values of a field in the lines of a text.
local function count_field(counts, name, text, by)
  local from = 1
  while from <= #text do
    local value
    value, from = field_value(text, from, name)
    if value then
      counts[value] = (counts[value] or 0) + by
    end
  end
end

local function count_values(list, text, by)
  for name, counts in pairs(list.indexes) do
    count_field(counts, name, text, by)
  end
end

local function make_index(name, list, field)
  list.indexes, list.count = list.indexes or {}, count_values
  local counts = {}
  for _, segment in ipairs(list.segments) do
    count_field(counts, field, text_of(name, segment), 1)
  end
  list.indexes[field] = counts
end

-- Whether a list has an object whose field has this value.
local function contains(name, list, field, value)
  verify(name, list)
  list.searches = (list.searches or 0) + 1
  if list.searches > most_searches then
    if not (list.indexes and list.indexes[field]) then
      make_index(name, list, field)
    end
    return (list.indexes[field][value] or 0) > 0
  end
  for _, segment in ipairs(list.segments) do
    segment.searched = segment.searched or text_of(name, segment)
    if has_field(segment.searched, field, value) then
      return true
    end
  end
  return false
end
