-- Splices: parts of a list are replaced, if the items that give way are there.

-- Whether a part of a text is what is expected: the expected text itself, or "#", its length and
-- its SHA-1 where it is long.
local function is_same(text, expected)
  local length, digest = string.match(expected, '^#(%d+) (%x+)$')
  if not length then
    return text == expected
  end
  return #text == length + 0 and redis.sha1hex(text) == digest
end

-- The length of what is expected.
local function length_of(expected)
  return tonumber(string.match(expected, '^#(%d+) ') or #expected)
end

-- Read the changes of a splice from the arguments: for each its place, how many items give way and
-- what they are, how many come and what they are.
local function read_changes(count)
  local changes = {}
  for place = 1, count do
    changes[place] = {place = tonumber(argument()), items = tonumber(argument()),
                      gone = argument(), added = tonumber(argument()), new = argument()}
  end
  return changes
end

-- Replace items in the text of all items from the first change on, which were so many. Returns the
-- text and the number of items, or nothing if the items that give way are not there.
local function replaced(text, items, changes)
  local parts, at, index, count = {}, 1, changes[1].place, items
  for _, change in ipairs(changes) do
    if change.place < index then
      return
    elseif change.place > index then
      local start = item_start(text, change.place - index, at)
      parts[#parts + 1] = string.sub(text, at, start - 2)
      at = start
    end
    local stop = at + length_of(change.gone) - 1
    local following = string.byte(text, stop + 1)
    if following and following ~= 10 or not is_same(string.sub(text, at, stop), change.gone) then
      return
    end
    if change.added > 0 then
      parts[#parts + 1] = change.new
    end
    count = count + change.added - change.items
    at, index = stop + 2, change.place + change.items
  end
  if at <= #text then
    parts[#parts + 1] = string.sub(text, at)
  end
  return table.concat(parts, '\n'), count
end

-- Returns whether the items that give way were there.
local function splice(name, list, changes)
  if #changes == 0 then
    return true
  end
  local first, last = changes[1].place, changes[#changes]
  if first < 0 or last.place + last.items > list.items then
    return false
  end
  local items = list.items - first
  local text, count = replaced(cut(name, list, first), items, changes)
  if text and count > 0 then
    append(name, list, text, count)
  end
  return text ~= nil
end
