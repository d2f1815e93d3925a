--- bus.http: calls of HTTP servers. The host does them (core.http_*); what an answer is, retries and clients
--- are here.
local core = require("moonbus.core")
local logged = require("moonbus.logged")
local methods_of = require("moonbus.methods")
local nearest = require("moonbus.nearest")
local options = require("moonbus.late")("moonbus.options_http")
local resumed = require("moonbus.task").resumed
local misuse = core.misuse

local M = {}

-- Answers -----------------------------------------------------------------------------------------

local Headers = {
  __index = function(headers, name)
    if type(name) ~= "string" then return nil end
    return rawget(headers, name:lower())
  end,
  __newindex = function() misuse("answer.headers: they are read only") end,
  __metatable = "headers",
}

local methods = {}
local FIELDS = { "body", "header_values", "headers", "json", "redirects", "status", "url" }
local ELSEWHERE = { data = "body", text = "body", code = "status", status_code = "status", header = "headers" }

local Answer = {
  __index = function(_, name)
    local method = methods[name]
    if method then return method end
    local shown = type(name) == "string" and "." .. name or ("[%s]"):format(logged(name))
    local meant = ELSEWHERE[name] or type(name) == "string" and nearest(name, FIELDS)
    return misuse(("answer%s: an answer has no such field: %s"):format(shown,
      meant and ("did you mean %q?"):format(meant) or "there are " .. table.concat(FIELDS, ", ")))
  end,
  __tostring = function(answer) return ("answer %d"):format(answer.status) end,
  __metatable = "answer",
}

local raw_headers = setmetatable({}, { __mode = "k" })

local function check_answer(answer, method)
  if not raw_headers[answer] then misuse(("answer:%s: call it with a colon"):format(method)) end
end

--- The body as a value, or nil and an error. Not bad_payload: that a server answers with a page of HTML
--- says nothing of the message, which is not to go to the dead letter for it.
function methods.json(answer, opts)
  check_answer(answer, "json")
  local value, err = core.json_decode(answer.body, opts)
  if err == nil then return value end
  local is_json = not err.message:find("^not JSON") -- but for a number of it, which is named by its path
  local place = answer.url:gsub("%?.*", "")
  return nil, core.error("protocol", ("the answer of %s%s %s"):format(place, is_json and ":" or " is", err.message))
end

--- All values of a header, as they came.
function methods.header_values(answer, name)
  check_answer(answer, "header_values")
  if type(name) ~= "string" then misuse("answer:header_values: expected the name of a header") end
  local list, wanted = {}, name:lower()
  local raw = raw_headers[answer]
  for i = 1, #raw, 2 do
    if raw[i]:lower() == wanted then list[#list + 1] = raw[i + 1] end
  end
  return list
end

--- Values of one name are joined, but for cookies, whose values have commas of their own.
local function to_answer(answer)
  local raw, headers = answer.headers, {}
  for i = 1, #raw, 2 do
    local name, value = raw[i]:lower(), raw[i + 1]
    local before = headers[name]
    if not before then
      headers[name] = value
    elseif name ~= "set-cookie" then
      headers[name] = before .. ", " .. value
    end
  end
  answer.headers = setmetatable(headers, Headers)
  raw_headers[answer] = raw
  return setmetatable(answer, Answer)
end

-- One call ----------------------------------------------------------------------------------------

--- Gives the sink what comes. How many pieces it got; nil and an error: it could not be waited for.
local function drain(ticket, binding, sink)
  local count = 0
  while true do
    local more, err = resumed(core.http_wait(ticket, binding))
    if more == nil then return nil, err end
    if not more then return count end
    local piece = core.http_piece(ticket)
    if not piece then
      return nil, core.error("memory", binding .. ": no memory for a piece of the answer")
    end
    local ok, failure = xpcall(sink, function(value)
      core.http_close(ticket)
      return value
    end, piece)
    if not ok then error(failure, 0) end
    count = count + 1
  end
end

--- An answer; or nil, an error, and how many pieces the sink had got.
local function call(binding, spec, sink)
  local ticket, err = core.http_open(binding, spec)
  if not ticket then return nil, err, 0 end
  local count
  count, err = drain(ticket, binding, sink)
  if not count then
    core.http_close(ticket)
    return nil, err, 0
  end
  local answer
  answer, err = core.http_answer(ticket)
  if not answer then return nil, err, count end
  return to_answer(answer), nil, count
end

-- Retries -----------------------------------------------------------------------------------------

local IDEMPOTENT = { GET = true, HEAD = true, PUT = true, DELETE = true, OPTIONS = true, TRACE = true }
--- The server has certainly done nothing; unless it redirected us there, when it has done what it was asked for.
local UNDONE = { refused = true, dns = true, [429] = true }
local RETRY_AFTER_MOST = 60

local function is_keyed(spec)
  for i = 1, #spec.headers, 2 do
    if spec.headers[i]:lower() == "idempotency-key" then return true end
  end
  return false
end

local function wait_before(retries, attempt, answer)
  local backoff = retries.backoff
  local seconds = math.min(backoff.max, backoff.min * 2 ^ (attempt - 1))
  seconds = seconds * (0.8 + 0.4 * math.random())
  local asked = answer and tonumber((answer.headers["retry-after"] or ""):match("^%d+$"))
  if asked then seconds = math.max(seconds, math.min(asked, RETRY_AFTER_MOST)) end
  resumed(core.sleep(seconds, "bus.http"))
end

local function call_again(binding, spec, sink, retries)
  local safe = IDEMPOTENT[spec.method] or is_keyed(spec)
  local attempt = 0
  while true do
    attempt = attempt + 1
    local answer, err, pieces = call(binding, spec, sink)
    local what = answer and answer.status or err and err.code
    local direct = ((answer or err).redirects or 0) == 0
    local again = retries and attempt < retries.attempts and retries.on[what]
      and (safe or UNDONE[what] and direct) and pieces == 0
    if not again then return answer, err end
    wait_before(retries, attempt, answer)
  end
end

-- The bindings ------------------------------------------------------------------------------------

--- The key of a call that must not be done twice: the same in each run of an input.
local function add_key(binding, spec, key)
  if not key or is_keyed(spec) then return end
  if key == true or type(key) ~= "string" then
    local message = key ~= true and key or nil
    key = core.http_key(message)
    if not key then
      misuse(binding .. ": idempotency_key: there is no message of a stream that it could come from; state a string"
        .. " (in a batch: the message that this is for)")
    end
  end
  spec.headers[#spec.headers + 1], spec.headers[#spec.headers + 2] = "Idempotency-Key", key
end

local function request(binding, method, opts, client)
  local spec, more = options.request(binding, method, opts, client)
  local key = more.key
  if key == nil and client and client.idempotency_key and not IDEMPOTENT[spec.method] then key = true end
  add_key(binding, spec, key)
  return call_again(binding, spec, more.sink, client and client.retries)
end

local function copy_with_url(binding, url, opts)
  if type(url) ~= "string" then
    misuse(("%s: the URL must be a string, got %s"):format(binding, type(url)))
  end
  local copy = { url = url }
  if opts ~= nil then
    if type(opts) ~= "table" then
      misuse(("%s: expected a table of options, got a %s: write { body = ... } or { json = ... }")
        :format(binding, type(opts)))
    end
    if rawget(opts, "url") ~= nil then misuse(binding .. ": the URL is stated twice") end
    for name, value in pairs(opts) do copy[name] = value end
  end
  return copy
end

local METHODS = { get = "GET", head = "HEAD", post = "POST", put = "PUT", patch = "PATCH", delete = "DELETE" }

function M.request(opts)
  return request("bus.http.request", nil, opts)
end

for name, method in pairs(METHODS) do
  local binding = "bus.http." .. name
  M[name] = function(url, opts)
    return request(binding, method, copy_with_url(binding, url, opts))
  end
end

-- Clients -----------------------------------------------------------------------------------------

local Client = {}
local client_options = setmetatable({}, { __mode = "k" })

local function options_of(client, method)
  local opts = client_options[client]
  if not opts then misuse(("client:%s: call it with a colon"):format(method)) end
  return opts
end

function Client.request(client, opts)
  return request("client:request", nil, opts, options_of(client, "request"))
end

for name, method in pairs(METHODS) do
  local binding = "client:" .. name
  Client[name] = function(client, path, opts)
    local base = options_of(client, name)
    return request(binding, method, copy_with_url(binding, path, opts), base)
  end
end

local CLIENT = {
  __metatable = "client",
  __index = methods_of(Client, "client", { fetch = "get", send = "request", del = "delete", call = "request" }),
  __newindex = function() misuse("client: its options are stated when it is made") end,
  __tostring = function(client) return "client " .. (client_options[client].base or "of any server") end,
}

function M.client(opts)
  local client = {}
  client_options[client] = options.client(opts)
  return setmetatable(client, CLIENT)
end

return M
