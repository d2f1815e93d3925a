-- Facts for the judgements (host/judge/judge.h), written as tables, and what they find.
--
--   judged.find { handlers = { judged.consume { ack_wait = 0.5 } }, streams = { { name = "ORDERS" } } }
--   --> { { name = "short_ack_wait", severity = "warning", text = "...", script = ..., line = 1, other = nil } }
local cjson = require "cjson"
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "judge/judge.h"
pcall(ffi.cdef, "struct cJSON *cJSON_Parse(const char *text);")
local lib = units.lib

local judged = {}

local function ns(seconds) return math.floor(seconds * 1e9 + 0.5) end

local function with(defaults, given)
  local result = {}
  for key, value in pairs(defaults) do result[key] = value end
  for key, value in pairs(given or {}) do result[key] = value end
  return result
end

-- Well set in each regard. Times are seconds.
local CONSUME = {
  kind = "CONSUME", script = "a.lua", handler = "IN/worker", what = "all subjects", timeout = 10, timeout_stated = true,
  concurrency = 8, stream = "IN", durable = "worker", filters = {}, ack_wait = 30, attempts = 2, retries = 1,
  backoff_max = 60, longest_retry = 3600, messages = 8, max_ack_pending = 0, dead_letter = "dead.in", from_start = true,
}
local SUBSCRIBE = {
  kind = "SUBSCRIBE", script = "a.lua", handler = "greet.*", what = "request/reply", timeout = 10,
    timeout_stated = true,
  concurrency = 8, subject = "greet.*",
}
local OFFLOAD = { kind = "OFFLOAD", script = "a.lua", handler = "offload img", what = "offload", timeout = 5 }
local SETTINGS = {
  graceful_timeout = 25, request_timeout = 5, publish_timeout = 5, ping_interval = 5, reconnect_wait = 0.25,
  reconnect_jitter = 0.1, max_pings_out = 2, private_server = false,
}
local DEAD = { name = "DEAD", subjects = { "dead.>" }, script = "a.lua" }

function judged.consume(given) return with(CONSUME, given) end
function judged.subscribe(given) return with(SUBSCRIBE, given) end
function judged.offload(given) return with(OFFLOAD, given) end

-- What C points to is kept in `anchors` for as long as it is used.
local function texts(anchors, list)
  local array = ffi.new("const char *[?]", #list + 1)
  for index, text in ipairs(list) do array[index - 1] = text end
  anchors[#anchors + 1] = { array, list }
  return array
end

local function fill_place(place, given, line)
  place.script, place.handler, place.file = given.script, given.handler or given.name, given.script
  place.line = given.line or line
end

local function fill_handler(anchors, handler, given, line)
  fill_place(handler.place, given, line)
  handler.kind = lib["JUDGE_" .. given.kind]
  for _, name in ipairs { "what", "subject", "queue", "stream", "durable", "dead_letter", "differs", "needs" } do
    handler[name] = given[name] or nil
  end
  for _, name in ipairs { "timeout_stated", "looks_on", "is_endpoint", "drops", "ordered", "headers_only", "bind",
    "from_start", "own", "backoff_stated" } do
    handler[name] = given[name] or false
  end
  for _, name in ipairs { "concurrency", "attempts", "messages", "max_ack_pending", "needs_minor", "order_token" } do
    handler[name] = given[name] or 0
  end
  for _, name in ipairs { "timeout", "ack_wait", "retries", "backoff_max", "longest_retry", "park_after" } do
    handler[name .. "_ns"] = ns(given[name] or 0)
  end
  handler.filters, handler.filter_count = texts(anchors, given.filters or {}), #(given.filters or {})
  handler.update = lib["JUDGE_UPDATE_" .. (given.update or "UNSTATED")]
end

-- What of a stream is no field of NATS'.
local OURS = { script = true, differs = true, update = true, line = true, only_read = true, clustered = true }

local function fill_stream(stream, given, line)
  local config = {}
  for key, value in pairs(given) do
    if not OURS[key] then config[key] = value end
  end
  if given.script then fill_place(stream.place, given, line) end
  stream.only_read, stream.clustered = given.only_read or false, given.clustered or false
  stream.config = lib.cJSON_Parse(cjson.encode(config))
  stream.differs = given.differs
  stream.update = lib["JUDGE_UPDATE_" .. (given.update or "UNSTATED")]
end

local function fill_bucket(anchors, bucket, given, line)
  fill_place(bucket.place, { script = given.script or "a.lua" }, line)
  anchors[#anchors + 1] = "KV_" .. given.name
  bucket.name, bucket.stream, bucket.own = given.name, anchors[#anchors], given.own or false
  bucket.ttl_ns = ns(given.ttl or 30)
end

-- The scripts that are named, each of which says all words; or those that are given.
local function scripts_of(given)
  if given.scripts then return given.scripts end
  local list, seen = {}, {}
  for _, handler in ipairs(given.handlers or {}) do
    if not seen[handler.script] then
      seen[handler.script] = true
      list[#list + 1] = { name = handler.script, registrations = 1, requests = true, publishes = true }
    end
  end
  return list
end

local function make(given, anchors)
  local facts = ffi.new "struct judge_facts"
  local settings = with(SETTINGS, given.settings)
  for name, value in pairs(settings) do
    if name == "unreadable" then
      facts.settings.unreadable, facts.settings.unreadable_count = value, #value
    elseif name == "max_pings_out" or name == "private_server" then
      facts.settings[name] = value
    else
      facts.settings[name .. "_ns"] = ns(value)
    end
  end
  local handlers, streams, scripts = given.handlers or {}, given.streams or { DEAD }, scripts_of(given)
  local c_handlers = ffi.new("struct judge_handler[?]", #handlers + 1)
  local c_streams = ffi.new("struct judge_stream[?]", #streams + 1)
  local buckets = given.buckets or {}
  local c_buckets = ffi.new("struct judge_bucket[?]", #buckets + 1)
  local c_scripts = ffi.new("struct judge_script[?]", #scripts + 1)
  for index, each in ipairs(handlers) do fill_handler(anchors, c_handlers[index - 1], each, 10 * index) end
  for index, each in ipairs(streams) do fill_stream(c_streams[index - 1], each, index) end
  for index, each in ipairs(buckets) do fill_bucket(anchors, c_buckets[index - 1], each, index) end
  for index, each in ipairs(scripts) do
    c_scripts[index - 1] = { each.name, each.registrations, each.requests or false, each.publishes or false,
      each.naks or false }
  end
  facts.handlers, facts.handler_count = c_handlers, #handlers
  facts.streams, facts.stream_count = c_streams, #streams
  facts.scripts, facts.script_count = c_scripts, #scripts
  facts.buckets, facts.bucket_count = c_buckets, #buckets
  facts.no_scripts = given.no_scripts or false
  facts.serving = given.serving or false
  facts.asked = given.server ~= nil
  facts.server_major, facts.server_minor = 2, given.server or 0
  anchors[#anchors + 1] = { c_handlers, c_streams, c_scripts, c_buckets, given, facts }
  return facts
end

local function text(pointer) return pointer ~= nil and ffi.string(pointer) or nil end

-- given: handlers, streams (default: one for dead letters), buckets, settings, scripts, server (2.N: it was asked).
function judged.find(given)
  local anchors = {}
  local findings, list = ffi.new "struct judge_findings", {}
  lib.judge_all(make(given, anchors), findings)
  for index = 0, findings.count - 1 do
    local finding = findings.list[index]
    list[#list + 1] = {
      name = ffi.string(finding.judgement.name), severity = ffi.string(lib.judge_severity_name(finding.severity)),
      text = ffi.string(finding.text), script = text(finding.place.script), handler = text(finding.place.handler),
      line = finding.place.line, other = text(finding.other.handler),
    }
  end
  lib.judge_findings_clear(findings)
  anchors[1] = anchors[1] -- until here
  return list
end

-- The names of the table's rows, in order.
function judged.names()
  local list = {}
  for index = 0, lib.judgement_count - 1 do list[#list + 1] = ffi.string(lib.judgements[index].name) end
  return list
end

-- What a row says of itself: its severity and what it finds.
function judged.row(index)
  local row = lib.judgements[index - 1]
  return ffi.string(lib.judge_severity_name(row.severity)), ffi.string(row.finds)
end

return judged
