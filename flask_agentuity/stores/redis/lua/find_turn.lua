-- Replies like lease_turn with the turn as it is; with nothing if it is free.
local turn = find_turn()
if turn then
  return {turn.holder, tonumber(turn.token), tonumber(turn.renewals), micros - turn.renewed}
end
