-- Lists. The string of a list is a bracket, its items with line feeds between them, and a bracket;
-- encoded JSON has no line feed anywhere else. Items that were removed at the beginning or the end
-- may be left in the string, so the entry says where the first item is (dead) and how many bytes
-- follow the last (tail, with the bracket that always stands right behind the last item).
--
-- While a script runs, a list consists of
--
-- * head: text of items that were kept before removed ones, with a line feed at its end,
-- * the bytes of the stored string from the one named from to before the one named upto,
-- * pieces: text of items that were added, and their number (added).

local function damaged()
  error('DAMAGED')
end

local function new_list()
  return {kind = '|', stamp = '0', size = 2, items = 0, head = '', pieces = {}, added = 0}
end

local function open_list(entry, size, items, dead, tail)
  local list = new_list()
  list.number, list.stamp, list.size, list.items = entry.number, entry.stamp, size + 0, items + 0
  if list.items > 0 then
    list.from, list.upto = dead + 0, dead + size - 2
    list.length = list.upto + tail
  end
  return list
end

local function is_list(entry)
  return entry and entry.kind == '|'
end

-- A string that is not as its entry says is not built upon.
local function verify(name, list)
  if list.from and not list.verified then
    if redis.call('STRLEN', name) ~= list.length then
      damaged()
    end
    list.verified = true
  end
end

-- Let a list have other items, so that its string is written anew.
local function renew(list, text, items)
  list.from, list.upto, list.head = nil, nil, ''
  list.size, list.items, list.added = #text + 2, items, items
  list.pieces = items > 0 and {text} or {}
  return list
end

-- The items, with line feeds between them.
local function whole(name, list)
  local text = table.concat(list.pieces, '\n')
  if not list.from then
    return text
  end
  verify(name, list)
  local stored = list.head .. redis.call('GETRANGE', name, list.from, list.upto - 1)
  return list.added > 0 and stored .. '\n' .. text or stored
end

local function append(name, list, text, items)
  verify(name, list)
  list.pieces[#list.pieces + 1] = text
  list.size = list.size + #text + (list.items > 0 and 1 or 0)
  list.items, list.added = list.items + items, list.added + items
end
