-- For a change under a turn. The last argument is the token of the turn. Replies with "fenced" if
-- the turn is over.
local turn = table.remove(ARGV)
if string.match(redis.call('GET', KEYS[1] .. ':turn') or '', '^%d+') ~= turn then
  return {'fenced'}
end
