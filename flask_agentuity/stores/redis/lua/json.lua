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

-- The position of the last byte of the value that begins at a position.
local function value_end(text, from)
  local char, depth = string.byte(text, from), 0
  if char == 34 then
    return string_end(text, from)
  elseif char ~= 91 and char ~= 123 then
    return (string.find(text, '[,}]', from) or damaged()) - 1
  end
  repeat
    local found = string.find(text, '[%[%]{}"]', from) or damaged()
    char = string.byte(text, found)
    if char == 34 then
      found = string_end(text, found)
    else
      depth = depth + ((char == 91 or char == 123) and 1 or -1)
    end
    from = found + 1
  until depth == 0
  return from - 1
end

-- The value of a field of the object in the line that begins at a position, but not of a nested object,
-- and the position at which the next line begins. The name of the field includes the colon.
local function field_value(text, from, name)
  local depth, value = 0, nil
  while true do
    local found = string.find(text, '[%[%]{}"\n]', from)
    local char = found and string.byte(text, found)
    if not found or char == 10 then
      return value, (found or #text) + 1
    elseif char ~= 34 then
      depth = depth + ((char == 91 or char == 123) and 1 or -1)
    elseif depth == 1 and string.sub(text, found, found + #name - 1) == name then
      local start = found + #name
      found = value_end(text, start)
      value = string.sub(text, start, found)
    else
      found = string_end(text, found)
    end
    from = found + 1
  end
end

-- Whether one of the lines is an object whose field has this value. Only lines with the same text are
-- examined, each of them once.
local function has_field(text, name, value)
  local searched, from = name .. value, 1
  while true do
    local place = string.find(text, searched, from, true)
    if not place then
      return false
    end
    local found
    found, from = field_value(text, line_start(text, place), name)
    if found == value then
      return true
    end
  end
end
