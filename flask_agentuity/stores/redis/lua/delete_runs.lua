-- KEYS: the thread.
delete_runs(KEYS[1], redis.call('LRANGE', runs_name(KEYS[1]), 0, -1))
