-- ARGV: the token, and what is added to the number of those who wait. Replies with the sum, 0 if the
-- turn is over.
local turn = find_turn()
if not turn or turn.token ~= ARGV[1] then
  return 0
end
local left = redis.call('PTTL', turn_name)
turn.waiting = turn.waiting + ARGV[2]
store_turn(turn, left > 0 and left or 1)
return turn.waiting
