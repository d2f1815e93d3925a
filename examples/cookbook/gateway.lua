-- gateway: HTTP services, for whoever speaks NATS. Only those of the config, and with keys that nobody else has.
--
-- Try it:  moonbus dev examples/cookbook
--          python3 -m http.server 8000                    (in a second shell, in this repository)
--          moonbus req http.get.here.LICENSE              (GET http://127.0.0.1:8000/LICENSE)
local bus = require "moonbus"

-- settings = { upstreams = { github = { base = "https://api.github.com", token = secret "GITHUB_TOKEN" } } }
local clients = {}
for name, upstream in pairs(bus.settings.upstreams or { here = { base = "http://127.0.0.1:8000" } }) do
  clients[name] = bus.http.client {
    base = upstream.base,
    headers = upstream.token and { Authorization = "Bearer " .. upstream.token } or nil,
    timeout = "4s", -- a requester waits for 5 s unless it says otherwise: it shall hear why there is no answer
    max = "900KB", -- what fits into one message
    follow = false, -- a redirect could lead anywhere
  }
end

local gateway = bus.service { name = "gateway", version = "1.0.0", description = "HTTP services over NATS" }

local function failed(status, text) return nil, { status = status, message = text } end

-- http.<method>.<upstream>.<path, with dots>: so permissions of NATS say who may call what.
gateway:endpoint("call", { subject = "http.*.*.>", timeout = "10s", concurrency = 100 }, function(msg)
  local method, name, path = msg.subject:match "^http%.(%l+)%.([^.]+)%.([%w._~-]+)$"
  if not (method == "get" or method == "post") then return failed(400, "http.get or .post, and a plain path") end
  if not clients[name] then return failed(404, "no upstream " .. name) end

  local key = msg.headers["Idempotency-Key"] -- the requester's: only it knows whether it asks a second time
  local answer, err = clients[name]:request {
    method = method:upper(),
    url = "/" .. path:gsub("%.", "/"),
    body = method == "post" and msg.data or nil,
    headers = { ["Content-Type"] = method == "post" and msg.headers["Content-Type"] or nil },
    idempotency_key = method == "post" and key or nil,
  }
  if not answer then return failed(err.code == "timeout" and 504 or 502, tostring(err)) end
  if answer.status >= 400 then return failed(answer.status, answer.body:sub(1, 500):gsub("%c", " ")) end
  if answer.status >= 300 then return failed(502, "a redirect to " .. (answer.headers.Location or "?")) end
  msg:respond(answer.body, { headers = {
    ["Content-Type"] = answer.headers["Content-Type"], Status = tostring(answer.status),
  } })
end)
