-- What a listing needs of a thread: its id, its head of either format and its metadata; nothing if
-- it has expired.
local function row_of(index_name, id)
  local name = index_name .. ':' .. id
  local stored = redis.pcall('HMGET', name, 'head', 'thread', 'metadata')
  if stored[1] or stored[2] or is_thread(name) then
    return {id, stored[1] or '', stored[2] or '', stored[3] or ''}
  end
end
