-- wrk: every request is a turn of the next conversation; the last line is JSON.
local cookies = {}
local number = 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    cookies[#cookies + 1] = line
  end
end

function request()
  number = number % #cookies + 1
  return wrk.format("POST", "/turn", { ["Cookie"] = cookies[number], ["Content-Length"] = "0" })
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.read + summary.errors.timeout
  io.write(string.format(
    '{"rate":%f,"p50":%f,"p99":%f,"failed":%d}\n',
    summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, failed
  ))
end
