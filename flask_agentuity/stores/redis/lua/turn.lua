-- The turn on a thread. KEYS: the turn.
local turn_name = KEYS[1]

-- Versions before leases stored the holder alone, with a short time to live.
local function find_turn()
  local text = redis.call('GET', turn_name)
  if not text then
    return
  end
  local turn = {}
  turn.token, turn.renewals, turn.renewed, turn.waiting, turn.holder = string.match(
    text, '^(%d+) (%d+) (%d+) (%-?%d+) (.*)$')
  if not turn.token then
    return {token = 0, renewals = micros, renewed = micros, waiting = 0, holder = text, former = true}
  end
  return turn
end

local function store_turn(turn, milliseconds)
  local text = string.format('%.0f %.0f %.0f %.0f %s', turn.token, turn.renewals, turn.renewed,
                             turn.waiting, turn.holder)
  redis.call('SET', turn_name, text, 'PX', milliseconds)
end
