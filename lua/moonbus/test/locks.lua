-- Locks of a cluster that another host holds, as far as the script under test can tell.
local blame = require "moonbus.test.blame"
local checks = require "moonbus.test.checks"
local keys = require "moonbus.cluster_key"

local M = {}

local OPTIONS = {
  fields = { ttl = { "duration", min = 1, max = 3600, default = 30 }, cluster = "string" },
  hints = { bucket = "cluster" },
}

local function check(method, name, options)
  if type(name) ~= "string" or name == "" then checks.refuse(method, "name", "the name of a lock", name) end
  options = checks.check(method, options, OPTIONS)
  local bucket = options.cluster or keys.BUCKET
  return ("$KV.%s.lock.%s"):format(bucket, keys.of(name)), bucket, options
end

-- The one of moonbus' own is made by who needs it first.
local function ensure(script, bucket)
  local stream = "KV_" .. bucket
  local info = script:ask("STREAM.INFO." .. stream)
  if type(info) == "table" and not info.error then return end
  if bucket ~= keys.BUCKET then blame('%s: there is no bucket "%s"', script.name, bucket) end
  script:ask("STREAM.CREATE." .. stream, keys.stream(1))
end

-- From now on: until it is released, or not renewed for its ttl.
function M.hold(script, name, options, store)
  local subject, bucket, checked = check("hold_lock", name, options)
  ensure(script, bucket)
  store(subject, { process = "another host", id = "a test", ttl = checked.ttl, name = name },
    { headers = { ["Nats-Rollup"] = "sub" } })
end

function M.release(script, name, options, store)
  local subject, bucket = check("release_lock", name, options)
  ensure(script, bucket)
  store(subject, nil, { headers = { ["Nats-Rollup"] = "sub", ["KV-Operation"] = "PURGE" } })
end

return M
