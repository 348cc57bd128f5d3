-- For the deletion by a request. KEYS: the thread, the index. ARGV: the milliseconds for which the
-- deletion is remembered, the version that the request has read (0: none), and the owner for whom it
-- works ("": anyone). Replies with "deleted" and the server's time in microseconds, or with "kept" if
-- there is another thread under the id.
local stored = redis.call('HMGET', KEYS[1], 'head', 'thread', 'owner')
local head = parse_head(stored[1], stored[2])
local read_version, worker = tonumber(ARGV[2]), ARGV[3]
if worker ~= '' and stored[3] and stored[3] ~= worker then
  return {'kept'}
elseif head and read_version > 0 and tonumber(head.born) > read_version then
  return {'kept'}
end
return {'deleted', (delete_thread(KEYS[1], KEYS[2], ARGV[1]))}
