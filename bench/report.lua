-- SPDX-License-Identifier: Apache-2.0
-- What wrk counted, as one line of JSON (bench/load.py reads it).  Only done() is defined: a request() or
-- response() would run for every request and make wrk itself the slow part.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\nBENCH {"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "max_us": %d, ' ..
      '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
