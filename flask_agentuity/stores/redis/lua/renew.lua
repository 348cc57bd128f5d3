-- KEYS: the thread, the index. ARGV: the time to live and the time for which deletions are remembered,
-- both in milliseconds.
touch(KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
