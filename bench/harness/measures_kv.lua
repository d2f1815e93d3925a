-- Measures of buckets: see measures.lua.
local cjson = require "cjson"
local programs = require "bench.harness.programs"
local serve = require "bench.harness.serve"
local wait = require "spec.support.wait"

local must_be, with = serve.must_be, serve.with
local measures = {}

local BUCKET = "KV_bench"

-- An empty bucket, as each client makes it.
local function make_bucket(run)
  pcall(run.client.delete_stream, run.client, BUCKET)
  run.client:stream(BUCKET, { "$KV.bench.>" }, {
    storage = "memory", max_msgs_per_subject = 1, discard = "new", allow_rollup_hdrs = true, deny_delete = true,
    allow_direct = true,
  })
end

-- Operations on a bucket, 64 at a time.
function measures.kv(run)
  make_bucket(run)
  local size, operation = run.variant.size, run.variant.operation
  return with(serve.start(run), function(started)
    local function ask(what, count)
      local job = cjson.encode { operation = what, count = count, size = size }
      return cjson.decode((assert(run.client:request("bench.kv", job, { timeout = 120 }))).data).seconds
    end
    ask("put", 1000)
    ask(operation, math.min(1000, run.messages))
    return serve.counted(started, function()
      return { sent = run.messages, rate = run.messages / ask(operation, run.messages) }
    end)
  end)
end

-- Changes of a bucket, as fast as they come.
function measures.kv_watch(run)
  make_bucket(run)
  return with(serve.start(run), function(started)
    local function counted() return cjson.decode((assert(run.client:request("bench.count", ""))).data) end
    return serve.counted(started, function()
      programs.load("fill", {
        url = run.server.url, subject = "$KV.bench.k", numbered = "yes", count = run.messages, size = run.variant.size,
      })
      wait.eventually(function() return counted().count >= run.messages end, 60,
        function() return ("%d of %d changes"):format(counted().count, run.messages) end)
      local result = counted()
      must_be(run.messages, result.count, "changes")
      return { sent = run.messages, rate = run.messages / result.seconds }
    end)
  end)
end

return measures
