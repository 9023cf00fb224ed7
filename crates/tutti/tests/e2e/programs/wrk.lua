-- Counts answers by version and by status, and writes one line of JSON at the end. wrk stops at SIGINT.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  counts = {}
end

function response(status, headers)
  local version = headers["tutti-version"] or "none"
  local key = status .. " " .. version
  counts[key] = (counts[key] or 0) + 1
end

function done(summary, latency)
  local total = {}
  for _, thread in ipairs(threads) do
    for key, count in pairs(thread:get("counts") or {}) do
      total[key] = (total[key] or 0) + count
    end
  end
  local answers = {}
  for key, count in pairs(total) do
    table.insert(answers, string.format('"%s":%d', key, count))
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"p99_us":%d,"answers":{%s}}\n',
    summary.requests, errors.status, errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(99.0), table.concat(answers, ",")))
end
