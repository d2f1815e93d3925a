--- "moonbus.jetstream": streams, consumers, and publishes that are stored.
local core = require("moonbus.core")
require("moonbus.middleware") -- first: it sees what is registered
local js_api = require("moonbus.js_api")
local js_count = require("moonbus.js_count")
local later = require("moonbus.late")("moonbus.later")
local messages = require("moonbus.messages")
local options = require("moonbus.options")
local publish = require("moonbus.publish")
local schema = require("moonbus.schema")
local task = require("moonbus.task")
require("moonbus") -- finishes the methods of messages

local copy, send = publish.copy, publish.send

local M = {}

function M.stream(settings)
  core.register("stream", options.stream(settings))
end

function M.consume(stream, opts, fn)
  local spec
  spec, fn = options.consume(stream, opts, fn)
  core.register("consume", spec, fn, spec.schema and schema.around(spec.schema, spec.batch ~= nil, fn))
end

--- What the server can do is known a moment after it is connected; if not, the publish says what is wrong.
local function send_when_able(subject, data, opts, content_type, binding)
  if opts and opts.needs and not core.js_level() then js_api.require(binding or "js.publish", opts.needs) end
  return send(subject, data, opts, content_type, binding)
end

function M.publish(subject, data, opts)
  if opts == nil then return send(subject, data) end
  opts = options.js_publish(opts, "js.publish")
  if opts.at then return later.publish(send, send_when_able, subject, data, opts) end
  return send_when_able(subject, data, opts)
end

--- Once per cluster, at the times of a cron line.
function M.cron(line, opts, fn)
  require("moonbus.js_cron")(M, line, opts, fn)
end

--- Adds to a counter: the sum, or nil and an error. Once for each input, as a publish.
function M.count(subject, by, opts)
  opts = options.js_count(by, opts)
  local receipt, err = send_when_able(subject, nil, opts, nil, "js.count")
  if not receipt then return nil, err end
  return js_count.sum(subject, receipt, opts.timeout)
end

--- What was counted so far; 0: nothing.
function M.counter(subject, opts)
  return js_count.read(subject, options.js_counter(subject, opts))
end

--- Of what was to be published later: true; or nil and an error, when it is too late.
function M.cancel(receipt)
  core.check("js.cancel")
  return later.cancel(send, receipt)
end

local function copy_headers(headers)
  local to = copy(headers)
  for name, value in pairs(to) do
    if type(value) == "table" then to[name] = copy(value) end
  end
  return to
end

--- Data, headers and id are taken down now; sending is a child's work, which the handler's end
--- waits for.
function M.publish_async(subject, data, opts)
  if opts ~= nil then opts = options.js_publish(opts, "js.publish_async") end
  local text, content_type, id, derived = core.js_prepare(subject, data, opts, "js.publish_async")
  opts = copy(opts)
  opts.id, opts.derived = id, derived
  if opts.headers then opts.headers = copy_headers(opts.headers) end
  return task.spawn_kept(send_when_able, subject, text, opts, content_type)
end

--- One stored message; or nil and an error.
function M.get(stream, query, opts)
  local request, timeout = options.js_get(stream, query, opts)
  return js_api.get("js.get", stream, request, timeout)
end

M.messages = messages

return require("moonbus.members")(M, "js")
