-- ARGV: the token, and after how many milliseconds an abandoned turn is forgotten. Replies with 1, or
-- with 0 if the turn is over.
local turn = find_turn()
if not turn or turn.token ~= ARGV[1] then
  return 0
end
turn.renewals, turn.renewed = turn.renewals + 1, micros
store_turn(turn, ARGV[2])
return 1
