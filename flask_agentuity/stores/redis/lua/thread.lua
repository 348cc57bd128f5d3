-- KEYS: the thread, the index, the strings of the keys that the steps name, and the indexes of new
-- labels. ARGV[1]: the TTL in milliseconds (0: none), the largest document, how many of those keys
-- there are, whether a null is in what comes (0 or 1), the age of the request and when it began at
-- the latest (0: not known) in microseconds, the version that it has read (0: none), the time for
-- which deletions are remembered in milliseconds, and the lock that the caller holds, if it does. ARGV[2]: the head that it has seen, or "". Then
-- come the steps.
--
-- Replies with what became of it: "written", the version, the head, the keys and entries of lists that were
-- changed, the lengths of lists before they were pushed to, and the numbers of skipped steps; or
-- "conflict", keys and whether they were assigned, and whether the metadata has one; or "large" and
-- the size; or "kept", "gone", "busy" or "lost" (the lock).

local thread_name, index_name = KEYS[1], KEYS[2]
local ttl, limit, named, nulls, age, latest, read_version, memory, token = string.match(
  ARGV[1], '^(%d+) (%d+) (%d+) (%d) (%d+) (%d+) (%d+) (%d+) (%S*)$')
ttl, limit, memory = tonumber(ttl), tonumber(limit), tonumber(memory)

local next_argument = 3
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument - 1]
end

-- As many entries as one call may name are fetched at once, which are all of most writes.
local fetched, prefetched = {}, {}
for place = 1, math.min(named, 100) do
  prefetched[place] = string.sub(KEYS[2 + place], #thread_name + 2)
end
local stored = redis.call(
  'HMGET', thread_name, 'head', 'thread', 'metadata', 'gone', 'lock', unpack(prefetched))
for place, key in ipairs(prefetched) do
  fetched[key] = stored[5 + place]
end

local head = (stored[1] or stored[2]) and parse_head(stored[1], stored[2] or nil)
if not head and is_thread(thread_name) then
  damaged()
end
local is_new = not head

-- The lock of one who merges; one that has expired counts no more.
local holder, expires = string.match(stored[5] or '', '^(%S+) (%d+)$')
if token ~= '' and holder ~= token then
  return {'lost'}
elseif holder and holder ~= token and expires + 0 > micros then
  return {'busy'}
end

local deleted, deleted_version = string.match(stored[4] or '', '^(%d+) (%d+)$')
local left = remembered(stored[4], memory)
if left > 0 then
  local since_read = read_version ~= '0' and (is_new or tonumber(head.born) > tonumber(read_version))
  local began = math.min(micros - age, latest == '0' and micros or latest + 0)
  if deleted + 0 >= began or since_read then
    return {'gone'}
  end
  -- A thread that was made again stays at least as long as its deletion is remembered.
  ttl = ttl > 0 and math.max(ttl, left) or 0
end

-- However clocks go, a write has another version and comes later than the one before.
local version = math.max(
  micros, (head and head.version or 0) + 1, (deleted_version or 0) + 1)
local version_text = string.format('%.0f', version)
if is_new then
  local created = version == micros and clock or string.format('%.17g', version / 1e6)
  head = {size = 0, following = 1, born = version_text, created = created, safe = '-1',
          version = '0', updated = '0'}
end
head.size, head.following = tonumber(head.size), tonumber(head.following)
local former_metadata = stored[3] or '{}'
local metadata = former_metadata

-- The size of a document, from that of its entries and from the text of its metadata: with
-- '"state":{}', '"metadata":', and the braces and the comma around them.
local function document_size(entries_size, text)
  local bytes = (string.find(text, '\n', 1, true) or #text + 1) - 1
  local state = entries_size > 0 and entries_size + 9 or 0
  local other = bytes > 2 and bytes + 11 or 0
  if state == 0 and other == 0 then
    return 0
  end
  return 2 + state + other + (state > 0 and other > 0 and 1 or 0)
end

local size_before = document_size(head.size, metadata)
