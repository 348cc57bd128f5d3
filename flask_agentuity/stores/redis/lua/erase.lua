-- KEYS: the index. ARGV: an owner, how many threads to delete at most, and the milliseconds for which
-- their deletion is remembered. Replies with how many were found, and how many were deleted.
local index_name, owner, count = KEYS[1], ARGV[1], tonumber(ARGV[2])
local owned = index_name .. '.@' .. owner
local deleted, found = 0, redis.call('ZRANGE', owned, 0, count - 1)
for _, id in ipairs(found) do
  local _, existed = delete_thread(index_name .. ':' .. id, index_name, ARGV[3])
  deleted = deleted + (existed and 1 or 0)
  -- A thread that has expired does not know its owner any more.
  redis.call('ZREM', owned, id)
end
return {#found, deleted}
