-- Threads in the former format.

-- Parse an entry of the former format, and convert the string of a list.
local function parse_former(name, text)
  local number, kind, rest = string.match(text, '^(%d+) ([=%*%[|])(.*)$')
  if kind == '=' or kind == '*' then
    return parse_entry(number .. ' 0 ' .. kind .. rest)
  end
  local size, items, dead = string.match(rest or '', '^(%d+) ?(%d*) ?(%d*)$')
  if not size then
    damaged()
  end
  local body = size == '2' and '' or redis.call('GETRANGE', name, tonumber(dead) or 0, -1)
  if #body ~= size - 2 then
    damaged()
  end
  if kind == '[' then
    body, items = part_items(body)
  end
  local entry = renew(new_list(), body, tonumber(items))
  entry.number = number
  return entry
end

-- Convert all entries of a thread.
local function upgrade()
  local fields = redis.call('HGETALL', thread_name)
  for place = 1, #fields, 2 do
    local key, text = fields[place], fields[place + 1]
    if string.byte(key) == 34 then
      entries[key], changed[key] = parse_former(string_name(thread_name, key), text), true
      strings[key] = has_string(text)
    end
  end
  all_known = true
end
