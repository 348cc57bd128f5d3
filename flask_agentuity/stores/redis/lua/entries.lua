-- Entries: what is known of the value at one key. An entry that is read has
--
-- * number: its place among the keys; stamp: the version at which it was last assigned,
-- * kind: '=' (value is the text), '*' (a long value) or '|' (a list),
-- * size: the bytes of the value in the document,
--
-- and a long value that was changed has its new text in value. What a list has is said in lists.lua.

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
