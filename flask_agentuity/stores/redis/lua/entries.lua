-- Entries of keys. As a table, an entry has
--
-- * number: its place in the order of keys; stamp: the version at which it was last set
--   unconditionally; assigned: whether this script does so,
-- * kind: '=' for a small value, '*' for a long value or '|' for a list (see lists.lua),
-- * size: the bytes of the value in the document,
-- * value: the text of a small value, or of a long value that is new.

local function parse_entry(text)
  local number, stamp, kind, rest = string.match(text, '^(%d+) (%d+) ([=%*|])(.*)$')
  local entry = {number = number, stamp = stamp, kind = kind}
  if kind == '=' then
    entry.size, entry.value = #rest, rest
  elseif kind == '*' then
    entry.size, entry.stored = tonumber(rest), true
  elseif kind then
    local size, items, dead, tail = string.match(rest, '^(%d+) (%d+) (%d+) (%d+)$')
    entry = tail and open_list(entry, size, items, dead, tail) or {}
  end
  return entry.size and entry or damaged()
end

local function join_entry(entry)
  local rest = entry.size
  if entry.kind == '=' then
    rest = entry.value
  elseif entry.kind == '|' then
    rest = table.concat({entry.size, entry.items, entry.dead, entry.tail}, ' ')
  end
  return entry.number .. ' ' .. entry.stamp .. ' ' .. entry.kind .. rest
end
