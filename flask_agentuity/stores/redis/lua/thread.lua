-- KEYS: the thread, the index, the strings of the keys that the steps name, and the indexes of new
-- index terms. ARGV[1]: the time to live in milliseconds (0: none), the size of the largest document, the
-- number of keys that the steps name, 1 if a value may contain a null, the age of the request and the
-- latest time of its beginning (0: not known) in microseconds, the version that it has read (0: none),
-- the time in milliseconds for which deletions are remembered, the token of the lock if the caller
-- holds it, the owner for whom the request works if there is one, and the most keys of a state. ARGV[2]: the head that the caller has seen, or "". The steps follow.
--
-- Replies with
--
-- * "written", the version, the head, the keys and entries of changed lists, the length of its list
--   before each push (-1: not a list), and the numbers of skipped steps,
-- * "conflict", the keys with one, each followed by 1 if it was assigned, and 1 for the metadata,
-- * "large" and the size of the document; "keys" and how many keys there would be,
-- * "kept" (the stored thread is as new), "gone" (it was deleted, or belongs to another), "busy" (it is locked), "lost" (the
--   caller no longer holds the lock).

local thread_name, index_name = KEYS[1], KEYS[2]
local ttl, limit, named, nulls, age, latest, read_version, memory, token, worker, most_keys =
  string.match(ARGV[1], '^(%d+) (%d+) (%d+) (%d) (%d+) (%d+) (%d+) (%d+) (%S*) (%S*) (%d+)$')
ttl, limit, memory, most_keys = tonumber(ttl), tonumber(limit), tonumber(memory), tonumber(most_keys)

local next_argument = 3
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument - 1]
end

-- Most writes need these entries only. One call can name a limited number.
local fetched, prefetched = {}, {}
for place = 1, math.min(named, 100) do
  prefetched[place] = string.sub(KEYS[2 + place], #thread_name + 2)
end
local stored = redis.call(
  'HMGET', thread_name, 'head', 'thread', 'metadata', 'gone', 'lock', 'owner', unpack(prefetched))
for place, key in ipairs(prefetched) do
  fetched[key] = stored[6 + place]
end

local head = (stored[1] or stored[2]) and parse_head(stored[1], stored[2] or nil)
if not head and is_thread(thread_name) then
  damaged()
end
local is_new = not head

-- A lock that has expired does not count.
local holder, expires = string.match(stored[5] or '', '^(%S+) (%d+)$')
if token ~= '' and holder ~= token then
  return {'lost'}
elseif holder and holder ~= token and expires + 0 > micros then
  return {'busy'}
end

local former_owner = stored[6] or nil
local owner = former_owner
if is_new and worker ~= '' then
  owner = worker
elseif worker ~= '' and owner and owner ~= worker then
  return {'gone'}
end

local deleted, deleted_version = string.match(stored[4] or '', '^(%d+) (%d+)$')
local left = remembered(stored[4], memory)
if left > 0 then
  local since_read = read_version ~= '0' and (is_new or tonumber(head.born) > tonumber(read_version))
  local began = math.min(micros - age, latest == '0' and micros or latest + 0)
  if deleted + 0 >= began or since_read then
    if deleted + 0 > micros then
      -- The clock was set back since the deletion, which counts from now on as one of this moment.
      -- Otherwise every request would be older until the clock has caught up.
      redis.pcall('HSET', thread_name, 'gone', string.format('%.0f ', micros) .. deleted_version)
    end
    return {'gone'}
  end
  -- The new thread must not expire before its tombstone.
  ttl = ttl > 0 and math.max(ttl, left) or 0
end

-- Versions and times must rise even if the clock was set back.
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

-- The size of a document, given the size of its entries and its metadata. The numbers are the lengths
-- of '"state":{}', of '"metadata":', and of the punctuation around them.
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
