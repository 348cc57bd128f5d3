-- For a write to a copy of a thread, which becomes KEYS[1]. The last arguments are the key of the
-- original, and the owner of the copy ("": that of the original).
local copy_name, copy_owner = KEYS[1], table.remove(ARGV)
local original = table.remove(ARGV)

local function copied()
  local fields, kept, strings = redis.call('HGETALL', original), {}, {}
  local size, metadata, owner = '0', '{}', copy_owner
  for place = 1, #fields, 2 do
    local field, text = fields[place], fields[place + 1]
    if field == 'owner' then
      if copy_owner ~= '' and copy_owner ~= text then
        return
      end
      owner = text
    elseif field == 'head' or field == 'thread' then
      -- The write that follows gives the copy its times and its version.
      local time = redis.call('TIME')
      local clock = time[1] .. '.' .. string.format('%06d', time[2])
      local born = time[1] .. string.format('%06d', time[2])
      local numbers = field == 'head' and '^(%d+) (%d+) %d+ %S+ %S+ (%d+) %S+$' or '^(%d+) (%d+) (%d+) '
      local following, version
      size, following, version = string.match(text, numbers)
      if not size then
        return
      end
      kept[#kept + 1] = field
      kept[#kept + 1] = field == 'head'
        and table.concat({size, following, born, clock, '-1', version, '0'}, ' ')
        or table.concat({size, following, version, clock, '0', '-1'}, ' ')
    elseif field ~= 'gone' and field ~= 'lock' then
      if field == 'metadata' then
        metadata = string.match(text, '^[^\n]*')
      elseif string.byte(field) == 34 and has_string(text) then
        strings[field] = redis.call('GET', string_name(original, field)) or error('DAMAGED')
      end
      kept[#kept + 1], kept[#kept + 2] = field, text
    end
  end
  if size == '0' and #metadata <= 2 and owner == '' then
    return
  end
  if owner ~= '' then
    kept[#kept + 1], kept[#kept + 2] = 'owner', owner
  end
  return kept, strings
end

local kept, strings = copied()
if not kept then
  return {'missing'}
elseif redis.call('EXISTS', copy_name) == 1 then
  return {'taken'}
end
for first = 1, #kept, 1000 do
  redis.call('HSET', copy_name, unpack(kept, first, math.min(first + 999, #kept)))
end
for field, text in pairs(strings) do
  redis.call('SET', string_name(copy_name, field), text)
end
