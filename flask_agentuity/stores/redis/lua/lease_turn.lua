-- KEYS[2]: the last fencing token of all turns beside it. ARGV: the new holder, after how many
-- milliseconds an abandoned turn is forgotten, and the token and the number of renewals of a turn that
-- is taken over if it is still like this. Replies with the holder, the token, the number of renewals,
-- and the microseconds since the last one.
local tokens_name, turn = KEYS[2], find_turn()
if turn and turn.holder ~= ARGV[1]
  and (turn.former or turn.token ~= ARGV[3] or turn.renewals ~= ARGV[4]) then
  return {turn.holder, tonumber(turn.token), tonumber(turn.renewals), micros - turn.renewed}
end
if turn and turn.holder ~= ARGV[1] then
  -- The turn and the run of its holder end together. The name of a turn is that of the thread and
  -- ":turn".
  interrupt_runs(string.sub(turn_name, 1, -6), turn.holder)
end
if not turn or turn.holder ~= ARGV[1] then
  -- It rises even if the string with the last one was lost, unless the clock was set back as well.
  local token = math.max(micros, (redis.call('GET', tokens_name) or 0) + 1)
  redis.call('SET', tokens_name, string.format('%.0f', token))
  turn = {token = token, renewals = 0, renewed = micros, waiting = 0, holder = ARGV[1]}
  store_turn(turn, ARGV[2])
end
return {turn.holder, tonumber(turn.token), tonumber(turn.renewals), 0}
