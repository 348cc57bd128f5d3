-- KEYS: the index. ARGV: how many threads are wanted, how many may be examined, the time and the id
-- after which they come ("" and "" for the first ones), and the index terms that they have.
--
-- Replies with a row for each thread (see rows.lua), and with the time and the id of the last one that
-- was examined if there may be more.
local index_name, wanted, most = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local updated, id = ARGV[3], ARGV[4]

-- The threads with the rarest term are examined, and tested for the other terms.
local names, chosen = {}, 1
for place = 5, #ARGV do
  names[#names + 1] = index_name .. '.' .. ARGV[place]
end
if #names == 0 then
  names[1] = index_name
end
local fewest = math.huge
for place, name in ipairs(names) do
  local count = redis.call('ZCARD', name)
  if count < fewest then
    chosen, fewest = place, count
  end
end
local name = table.remove(names, chosen)

-- Compares bytes, like the index. Lua's own comparison depends on the locale.
local function comes_after(one, other)
  for place = 1, math.min(#one, #other) do
    local byte, another = string.byte(one, place), string.byte(other, place)
    if byte ~= another then
      return byte < another
    end
  end
  return #one < #other
end

local rank = 0
if updated ~= '' then
  rank = redis.call('ZCOUNT', name, '(' .. updated, '+inf')
  local last = rank + redis.call('ZCOUNT', name, updated, updated)
  while rank < last do
    local middle = math.floor((rank + last) / 2)
    if comes_after(redis.call('ZREVRANGE', name, middle, middle)[1], id) then
      last = middle
    else
      rank = middle + 1
    end
  end
end

local function has_other_labels(member)
  for _, other in ipairs(names) do
    if not redis.call('ZSCORE', other, member) then
      return false
    end
  end
  return true
end

local found, expired, looked_at, more = {}, {}, 0, true
while more and #found < wanted and looked_at < most do
  local count = math.min(wanted - #found, most - looked_at)
  local members = redis.call('ZREVRANGE', name, rank, rank + count - 1, 'WITHSCORES')
  more = #members == 2 * count
  rank, looked_at = rank + count, looked_at + count
  for place = 1, #members, 2 do
    id, updated = members[place], members[place + 1]
    if has_other_labels(id) then
      local row = row_of(index_name, id)
      if row then
        found[#found + 1] = row
      else
        expired[#expired + 1] = id
      end
    end
  end
end
names[#names + 1] = name
names[#names + 1] = index_name
for _, member in ipairs(expired) do
  for _, other in ipairs(names) do
    -- A replica that must not write can still list threads.
    redis.pcall('ZREM', other, member)
  end
end
return {found, more and {updated, id} or {}}
