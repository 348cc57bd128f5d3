-- For a write under a turn. The last argument is the token of the turn.
local turn = table.remove(ARGV)
if string.match(redis.call('GET', KEYS[1] .. ':turn') or '', '^%d+') ~= turn then
  return {'taken'}
end
