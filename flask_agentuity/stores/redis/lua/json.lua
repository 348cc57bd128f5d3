-- Find things in JSON text without decoding it.

-- The position of the closing quotation mark of a string.
local function string_end(text, place)
  repeat
    place = string.find(text, '["\\]', place + 1)
    if not place then
      damaged()
    end
    local ends = string.byte(text, place) == 34
    place = ends and place or place + 1
  until ends
  return place
end

-- Replace the commas between the items of a list by line feeds. Returns the number of items as well.
local function part_items(text)
  local parts, depth, first, from = {}, 0, 1, 1
  while true do
    local found = string.find(text, depth == 0 and '[%[%]{}",]' or '[%[%]{}"]', from)
    if not found then
      break
    end
    local char = string.byte(text, found)
    if char == 34 then
      found = string_end(text, found)
    elseif char == 44 then
      parts[#parts + 1] = string.sub(text, first, found - 1)
      first = found + 1
    elseif char == 91 or char == 123 then
      depth = depth + 1
    else
      depth = depth - 1
    end
    from = found + 1
  end
  if depth ~= 0 then
    damaged()
  end
  parts[#parts + 1] = string.sub(text, first)
  return table.concat(parts, '\n'), text == '' and 0 or #parts
end

-- The position at which the line around a position begins.
local function line_start(text, place)
  local from, step = place, 1024
  while from > 1 do
    from = math.max(1, place - step)
    local start = string.match(string.sub(text, from, place), '.*\n()')
    if start then
      return from + start - 1
    end
    step = step * 4
  end
  return 1
end

-- Whether a field begins at a position and belongs to the object in its line, not to a nested one.
local function is_field(text, place)
  local from, depth = line_start(text, place), 0
  while true do
    local found = string.find(text, '[%[%]{}"]', from)
    if found >= place then
      return found == place and depth == 1
    end
    local char = string.byte(text, found)
    if char == 34 then
      found = string_end(text, found)
    elseif char == 91 or char == 123 then
      depth = depth + 1
    else
      depth = depth - 1
    end
    from = found + 1
  end
end

-- Whether one of the lines is an object that has this field with this value.
local function has_field(text, field)
  local first, last = 0, nil
  while true do
    first, last = string.find(text, field, first + 1, true)
    if not first then
      return false
    end
    local following = string.byte(text, last + 1)
    if (following == 44 or following == 125) and is_field(text, first) then
      return true
    end
  end
end
