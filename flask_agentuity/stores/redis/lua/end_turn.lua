-- ARGV: the holder.
local turn = find_turn()
if turn and turn.holder == ARGV[1] then
  redis.call('DEL', turn_name)
end
