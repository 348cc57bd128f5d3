-- Compare, search and add values.

-- Whether an entry (false: missing) has the expected value ("": missing).
local function has_value(name, entry, expected)
  if not entry or expected == '' then
    return not entry and expected == ''
  end
  if entry.size ~= expected_length(expected) then
    return false
  end
  local text = entry.value
  if entry.kind == '|' then
    text = '[' .. string.gsub(whole(name, entry), '\n', ',') .. ']'
  elseif not text then
    text = redis.call('GET', name)
    if not text or #text ~= entry.size then
      damaged()
    end
  end
  return is_same(text, expected)
end

-- The sum of two integers as text. Returns nothing if one is not an integer, or if a double cannot hold
-- one of them or the sum exactly.
local function exact_sum(former, by)
  local one, other = string.match(former, '^%-?%d+$'), string.match(by, '^%-?%d+$')
  if not (one and other) or #one > 17 or #other > 17 or one == '-0' then
    return
  end
  local sum, largest = one + other, 2 ^ 53
  if math.max(math.abs(one), math.abs(other), math.abs(sum)) < largest then
    return string.format('%.0f', sum)
  end
end
