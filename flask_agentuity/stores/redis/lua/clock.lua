-- The server's time: in seconds, as text and as a number, and in microseconds.

local time = redis.call('TIME')
local clock = time[1] .. '.' .. string.format('%06d', time[2])
local now, micros = tonumber(clock), time[1] * 1e6 + time[2]
