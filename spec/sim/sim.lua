-- A simulated world for specs: hosts with real handlers and bindings, a broker in the place of the
-- server, virtual time. Needs moonbus_sim in the place of luajit (spec/run does that).
--
--   local world = sim.new { seed = 7 }
--   local host = world:host { scripts = { ["orders.lua"] = [[ ... ]] } }
--   world:publish("orders.created", "{}")
--   world:advance "30s"
--   assert.same({ "began 1", "ended 1" }, world:said())
--   world:close()
local base64 = require "lua.moonbus.test.base64"
local cjson = require "cjson"
local ffi = require "ffi"
local temp = require "spec.support.temp"

local sim = {}
local world, host = {}, {}
world.__index, host.__index = world, host

if not pcall(ffi.typeof, "marker_sim") then
  local file = assert(io.open "host/sim/sim.h")
  local text = file:read "*a"
  file:close()
  ffi.cdef((text:gsub("\n[ \t]*#[^\n]*", "\n")) .. "\ntypedef int marker_sim;")
end
local C = ffi.C

-- The machine code of all these specs has room, and stays: LuaJIT's own 512 KB were full after 20 trials, and all
-- was compiled anew. What a world leaves behind is small, so that the collector may be slow.
require "jit.opt".start("maxtrace=20000", "maxmcode=65536")
collectgarbage("setpause", 400)

local UNITS = { ms = 1, s = 1000, m = 60000, h = 3600000 }

-- "1m30s" in milliseconds.
function sim.ms(text)
  if type(text) == "number" then return text end
  local sum = 0
  for number, unit in text:gmatch "([%d.]+)(%a+)" do sum = sum + tonumber(number) * UNITS[unit] end
  return sum
end

local PRELUDE = 'local bus, js, sim = require "moonbus", require "moonbus.jetstream", require "sim"; '

-- The text of a script with what most need in its first line: bus, js, sim.
function sim.script(text) return PRELUDE .. text end

-- --- the world ---

local folder

-- options: seed; yields, false_wakes (of a thousand); wire = "$JS.ACK.": what hosts send to
-- subjects that begin so is noted; "": all of it.
function sim.new(options)
  options = options or {}
  local self = setmetatable({ hosts = {}, noted = {}, inboxes = 0 }, world)
  self.bytes = C.sim_bytes()
  self.raw = C.sim_new(options.seed or 1, options.yields or 100, options.false_wakes or 5)
  self.wire = options.wire
  C.sim_note_wire(self.raw, options.wire)
  return self
end

function world:check(ok)
  if ok then return end
  self:read_notes()
  error(ffi.string(C.sim_error(self.raw)), 3)
end

function world:now() return C.sim_now_ms(self.raw) end
function world:advance(duration) self:check(C.sim_advance(self.raw, sim.ms(duration))) end
function world:set_clock(by_ms) C.sim_set_wall(self.raw, by_ms) end
function world:settle() self:check(C.sim_settle(self.raw)) end
function world:random(n) return math.floor(C.sim_random(self.raw) * n) + 1 end
function world:trace() return tostring(C.sim_trace(self.raw)) end
function world:fibers() return C.sim_fibers(self.raw) end
function world:report() return ffi.string(C.sim_report(self.raw)) end

-- Time passes until is_so(), or for `most` (10 minutes), looking every `step` (100 ms).
function world:wait(is_so, most, step)
  local until_ms = self:now() + sim.ms(most or "10m")
  while not is_so() do
    if self:now() >= until_ms then return false end
    self:advance(step or 100)
  end
  return true
end

-- "sent2" -> { kind = "sent", host = "2" }
local kinds = setmetatable({}, { __index = function(known, text)
  local kind, number = text:match "^(%a+)(%d*)$"
  known[text] = { kind = kind, host = number }
  return known[text]
end })

-- Lines: the milliseconds, a kind, a text, with tabs between. Each trial has hundreds, so no pattern reads them.
function world:read_notes()
  local lines, at = ffi.string(C.sim_notes(self.raw)), 1
  while at <= #lines do
    local ends = lines:find("\n", at, true) or #lines + 1
    local first = lines:find("\t", at, true) or ends
    local second = lines:find("\t", first + 1, true) or ends
    local ms = second < ends and tonumber(lines:sub(at, first - 1))
    if ms then
      local from = kinds[lines:sub(first + 1, second - 1)]
      self.noted[#self.noted + 1] =
        { ms = ms, kind = from.kind, host = from.host, text = lines:sub(second + 1, ends - 1) }
    end
    at = ends + 1
  end
  return self.noted
end

-- A note of the spec's own, "sim".
function world:remark(text)
  self:read_notes()
  self.noted[#self.noted + 1] = { ms = self:now(), kind = "sim", text = text }
end

-- The texts of one kind ("note", "sim", "sent", "got"); at = true: with their time, "12000 began".
function world:said(options)
  options = options or {}
  local list = {}
  for _, note in ipairs(self:read_notes()) do
    if note.kind == (options.kind or "note") then
      list[#list + 1] = options.at and ("%.14g %s"):format(note.ms, note.text) or note.text
    end
  end
  return list
end

-- Messages of the log from a level on ("warn"), decoded.
function world:logged(level)
  local list, ranks = {}, { debug = 0, info = 1, warn = 2, error = 3 }
  for _, note in ipairs(self:read_notes()) do
    if note.kind == "log" then
      local event = cjson.decode(note.text)
      if ranks[event.level] >= ranks[level or "info"] then list[#list + 1] = event end
    end
  end
  return list
end

-- --- the server, as a client beside the hosts sees it ---

local function header_block(headers)
  if not headers then return nil end
  local lines = { "NATS/1.0" }
  for name, value in pairs(headers) do lines[#lines + 1] = name .. ": " .. value end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- data: a string, or a table as JSON. options: reply, headers; after: a duration, from when on it
-- comes by itself, while time passes.
function world:publish(subject, data, options)
  options = options or {}
  local text = type(data) == "table" and cjson.encode(data) or data or ""
  C.sim_publish(self.raw, sim.ms(options.after or 0), subject, options.reply,
    header_block(options.headers), text, #text)
end

local function read_message(raw)
  local headers
  if raw.headers ~= nil then
    headers = {}
    for name, value in ffi.string(raw.headers, raw.headers_len):gmatch "([^:\r\n]+): ?([^\r\n]*)" do
      headers[name] = value
    end
  end
  return {
    subject = ffi.string(raw.subject), data = ffi.string(raw.data, raw.len), headers = headers,
    reply = raw.reply ~= nil and ffi.string(raw.reply) or nil,
    status = raw.headers ~= nil
      and ffi.string(raw.headers, raw.headers_len):match "^NATS/1.0 (%d+)" or nil,
  }
end

-- Everything that has come to "_OUTSIDE.>" since the last look.
function world:came()
  local list, raw = {}, ffi.new "struct sim_message"
  while C.sim_take(self.raw, raw) do list[#list + 1] = read_message(raw) end
  return list
end

-- Time passes until the reply is there, from one moment at which something happens to the next. nil: none
-- came.
function world:request(subject, data, options)
  options = options or {}
  self.inboxes = self.inboxes + 1
  local inbox = "_OUTSIDE." .. self.inboxes
  local until_ms = self:now() + sim.ms(options.timeout or "5s")
  self:publish(subject, data, { reply = inbox, headers = options.headers })
  self:settle()
  while true do
    for _, message in ipairs(self:came()) do
      if message.subject == inbox then return message end
    end
    if self:now() >= until_ms then return nil end
    self:check(C.sim_step(self.raw, until_ms))
  end
end

function world:api(operation, request)
  local reply = self:request("$JS.API." .. operation, request or "")
  return reply and cjson.decode(reply.data)
end

function world:stream(name) return self:api("STREAM.INFO." .. name) end
function world:consumer(stream, name) return self:api("CONSUMER.INFO." .. stream .. "." .. name) end

-- What a stream holds: a list of { sequence, subject, data, headers (text) }.
function world:messages(stream)
  local list, state = {}, self:stream(stream).state
  for sequence = state.first_seq, state.last_seq do
    local got = self:api("STREAM.MSG.GET." .. stream, { seq = sequence })
    if got and got.message then
      list[#list + 1] = {
        sequence = sequence, subject = got.message.subject,
        data = base64.decode(got.message.data or ""), headers = base64.decode(got.message.hdrs or ""),
      }
    end
  end
  return list
end

function world:data_of(stream)
  local list = {}
  for _, message in ipairs(self:messages(stream)) do list[#list + 1] = message.data end
  return list
end

-- All connections of hosts are lost; none is made for so long. options: link (from 0: of each host
-- consume, then publish), loss (0 to 3: nothing, what goes to the server, what comes from it, both).
function world:cut(back, options)
  options = options or {}
  C.sim_cut(self.raw, options.link or -1, options.loss or 3, sim.ms(back or 0))
end

-- The server stands still for so long.
function world:freeze(duration) C.sim_freeze(self.raw, sim.ms(duration)) end

-- The next n PubAcks and answers of the API that go to hosts are lost on their way.
function world:lose_answers(n) C.sim_lose(self.raw, "_INBOX.*.*", n) end

-- How many of them have not been lost yet.
function world:losses_left() return C.sim_losses_left(self.raw) end

-- The next n messages to hosts that answer to this subject (a pattern) are lost on their way.
local lost_subjects = {}
function world:lose(subject, n)
  lost_subjects[#lost_subjects + 1] = subject -- it must stay where it is
  C.sim_lose(self.raw, subject, n)
end

-- Of what hosts send to this subject (a pattern) the next n messages are lost, after the first `skip`.
function world:lose_sent(subject, skip, n)
  lost_subjects[#lost_subjects + 1] = subject
  C.sim_lose_in(self.raw, subject, skip, n)
end

-- It is away for so long, and then starts with all that it had.
function world:down(duration) C.sim_down(self.raw, sim.ms(duration)) end

-- For so long each message takes each_ms, to the server and from it.
function world:delay(each_ms, duration) C.sim_delay(self.raw, each_ms, sim.ms(duration)) end

-- --- a host ---

local settings_of = {}

local function settings(given)
  local lines = {}
  for key, value in pairs(given or {}) do lines[#lines + 1] = key .. "=" .. tostring(value) end
  table.sort(lines)
  local text = table.concat(lines, "\n")
  local raw = settings_of[text]
  if not raw then
    raw = C.sim_settings_new(text)
    if raw == nil then error(ffi.string(C.sim_settings_error()), 3) end
    settings_of[text] = raw
  end
  return raw
end

-- options: scripts = { ["a.lua"] = text }; settings = { workers = 2, ["limits.generations"] = 3 };
-- bus_settings: what the scripts have as bus.settings; serve = false: it only loads.
function world:host(options)
  local self_host = setmetatable({ world = self, number = #self.hosts + 1 }, host)
  local given = { workers = 2, lib = "spec/sim/lib", trust = true }
  for key, value in pairs(options.settings or {}) do given[key] = value end
  self_host.raw = C.sim_host_new(self.raw, settings(given))
  self:check(self_host.raw ~= nil)
  self.hosts[#self.hosts + 1] = self_host
  if options.bus_settings then
    self:check(C.sim_host_settings(self_host.raw, cjson.encode(options.bus_settings)))
  end
  local names = {}
  for name in pairs(options.scripts) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    self:check(C.sim_host_load(self_host.raw, self_host:write(name, options.scripts[name]), name))
  end
  if options.serve ~= false then self:check(C.sim_host_serve(self_host.raw)) end
  return self_host
end

function host:write(name, text)
  folder = folder or temp.folder()
  local path = ("%s/%d-%s"):format(folder, self.number, name)
  os.remove(path) -- a file that is cut off is written to the disk at once when it is closed
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

-- Begins a reload; wait = true: until it has ended.
function host:reload(name, text, wait)
  C.sim_host_reload(self.raw, self:write(name, text), name)
  if wait then self.world:wait(function() return not self:reloading() end, "1m", 1) end
end

function host:reloading() return C.sim_host_reloading(self.raw) end
function host:stop(graceful) C.sim_host_stop(self.raw, sim.ms(graceful or "30s")) end
function host:stopped() return C.sim_host_stopped(self.raw) end
-- The spans that it has recorded since the last call, each with its attributes as `map`: a host with the
-- setting ["telemetry.endpoint"] = "http://nobody" records them.
function host:spans()
  local list = {}
  for line in ffi.string(C.sim_host_spans(self.raw)):gmatch "[^\n]+" do
    for _, span in ipairs(cjson.decode(line).resourceSpans[1].scopeSpans[1].spans) do
      span.map = {}
      for _, attribute in ipairs(span.attributes) do
        span.map[attribute.key] = attribute.value.stringValue or tonumber(attribute.value.intValue)
      end
      list[#list + 1] = span
    end
  end
  return list
end

function host:status() return cjson.decode(ffi.string(C.sim_host_status(self.raw))) end

-- Stops it, waits for that, and frees it. How many handlers were unfinished; -1: at the deadline
-- something still ran (or the server stood still), so that it is left as it is.
function host:finish(graceful)
  if not self.raw then return self.unfinished end
  local raw = self.raw
  self.raw = nil
  self.unfinished = C.sim_host_end(raw, sim.ms(graceful or "30s"))
  if self.unfinished == -1 then self.world.left_behind = true end
  if self.unfinished == -2 then error(ffi.string(C.sim_error(self.world.raw)), 2) end
  return self.unfinished
end

-- Ends all hosts. What is left of them is an error: fibers, or (where it can be counted) memory.
function world:close()
  if not self.raw then return end
  local raw, complaint = self.raw, nil
  for _, each in ipairs(self.hosts) do
    local ok, why = pcall(host.finish, each)
    if not ok then complaint = complaint or why end
  end
  if not complaint and not self.left_behind and not C.sim_close(raw) then
    complaint = ffi.string(C.sim_error(raw))
  end
  self:read_notes()
  self.ended_trace = self:trace()
  local fibers = C.sim_fibers(raw)
  if fibers > 0 and not complaint and not self.left_behind then complaint = "fibers are left:\n" .. self:report() end
  self.raw = nil
  C.sim_free(raw)
  if complaint then error(complaint, 2) end
  return self.left_behind and 0 or tonumber(C.sim_bytes() - self.bytes)
end

return sim
