-- A row of a listing: the id, the head, the head of the former format, the metadata and the owner of
-- a thread, and the milliseconds after which it expires (-1: it does not). Returns nothing if the thread has expired.
local function row_of(index_name, id)
  local name = index_name .. ':' .. id
  local stored = redis.pcall('HMGET', name, 'head', 'thread', 'metadata', 'owner')
  if stored[1] or stored[2] or is_thread(name) then
    return {id, stored[1] or '', stored[2] or '', stored[3] or '', stored[4] or '',
            redis.call('PTTL', name)}
  end
end
