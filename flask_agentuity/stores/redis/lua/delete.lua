-- KEYS: the thread, the index. ARGV: the milliseconds for which the deletion is remembered. Replies
-- with the server's time in microseconds.
return (delete_thread(KEYS[1], KEYS[2], ARGV[1]))
