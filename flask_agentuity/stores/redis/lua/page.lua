-- KEYS: the index. ARGV: what corrections.lua needs, how many threads are wanted, how many may be examined, the time and the id
-- after which they come ("" and "" for the first ones), and the index terms that they have.
--
-- Replies with a row for each thread (see rows.lua), and with the time and the id of the last one that
-- was examined if there may be more.
local index_name, wanted, most = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local updated, id = ARGV[4], ARGV[5]
correct_times(index_name)

-- The indexes of all threads and of an owner are in the order of time. Those of other terms are not, so
-- they only say which threads there are. If few have the rarest term, these are examined and sorted.
-- Otherwise, threads are examined in the order of time, and tested for the terms.
local name, names = index_name, {}
for place = 6, #ARGV do
  local term = index_name .. '.' .. ARGV[place]
  if string.sub(ARGV[place], 1, 1) == '@' then
    name = term
  else
    names[#names + 1] = term
  end
end
local rarest, fewest = nil, most + 1
for _, term in ipairs(names) do
  local count = redis.call('ZCARD', term)
  if count < fewest then
    rarest, fewest = term, count
  end
end
local is_sorted = not rarest or fewest * fewest > wanted * redis.call('ZCARD', name)

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

local function has_terms(member)
  for _, term in ipairs(names) do
    if not redis.call('ZSCORE', term, member) then
      return false
    end
  end
  return true
end

local found, expired, more = {}, {}, true

local function take(member)
  local row = row_of(index_name, member)
  if row then
    found[#found + 1] = row
  else
    expired[#expired + 1] = member
  end
end

-- Examine threads in the order of time.
local function walk()
  local rank, looked_at = 0, 0
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
  while more and #found < wanted and looked_at < most do
    -- With terms, most of those that are examined do not have them.
    local count = math.min(#names > 0 and 100 or wanted - #found, most - looked_at)
    local members = redis.call('ZREVRANGE', name, rank, rank + count - 1, 'WITHSCORES')
    more = #members == 2 * count
    rank, looked_at = rank + count, looked_at + count
    for place = 1, #members, 2 do
      if #found == wanted then
        more = true
        break
      end
      id, updated = members[place], members[place + 1]
      if has_terms(id) then
        take(id)
      end
    end
  end
end

-- Examine all threads with the rarest term, and sort them.
local function sort()
  local places, after = {}, tonumber(updated)
  for _, member in ipairs(redis.call('ZRANGE', rarest, 0, -1)) do
    local score = redis.call('ZSCORE', name, member)
    if not score then
      if not is_thread(index_name .. ':' .. member) then
        expired[#expired + 1] = member
      end
    elseif not after or score + 0 < after or score + 0 == after and comes_after(member, id) then
      places[#places + 1] = {member, score, score + 0}
    end
  end
  table.sort(places, function(one, other)
    if one[3] ~= other[3] then
      return one[3] > other[3]
    end
    return comes_after(other[1], one[1])
  end)
  for number, place in ipairs(places) do
    if #found == wanted then
      return
    end
    id, updated = place[1], place[2]
    if has_terms(id) then
      take(id)
    end
    more = number < #places
  end
  more = false
end

if is_sorted then
  walk()
else
  sort()
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
