-- An HTTP server of its own on the loopback, whose paths say how it behaves: web_process.lua has
-- the list (/echo, /slow/MS, /hang, /endless, /redirect/N ...).
local cjson = require "cjson"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local web = {}
web.__index = web

-- options: tls = { cert =, key =, client_ca = } (files); unix = the path of a socket.
function web.start(options)
  options = options or {}
  local self = setmetatable({ port = posix.free_port(), unix = options.unix }, web)
  local tls = options.tls
  self.base = ("%s://127.0.0.1:%d"):format(tls and "https" or "http", self.port)
  local command = { "luajit", "spec/support/web_process.lua", options.unix or tostring(self.port) }
  for _, name in ipairs { "cert", "key", "client_ca" } do
    command[#command + 1] = tls and tls[name] or nil
  end
  self.process = process.start { command = command }
  wait.eventually(function()
    if options.unix then
      return os.execute("test -S '" .. options.unix .. "'") == 0
    end
    local fd = posix.dial(self.port, "")
    return fd and posix.C.close(fd) == 0
  end, 10, function() return "the web server\n" .. self.process:stderr() end)
  return self
end

-- Raises, with what it said, when the server has failed meanwhile.
function web:url(path)
  local server = self.process
  if not server:running() and server.status ~= 0 then
    error(("the web server has ended, %s: %s"):format(server.killed_by and "by signal " .. server.killed_by
      or "with status " .. tostring(server.status), server:stderr()), 2)
  end
  return self.base .. path
end

-- { requests, connections, open, running, most, sent }: most of the requests that ran at a time;
-- sent in endless answers. Not over TLS.
function web:stats()
  return cjson.decode(posix.http_get(self.port, "/stats"))
end

-- What came to the collector of that name (/collect/HOW/NAME): a list of { head, spans, resource }.
function web:collected(name)
  local list = {}
  for i, came in ipairs(cjson.decode(posix.http_get(self.port, "/collected/" .. name))) do
    local head, body = came.request:match "^(.-\r\n)\r\n(.*)$"
    local resource = cjson.decode(body).resourceSpans[1]
    list[i] = { head = head, body = body, spans = resource.scopeSpans[1].spans, resource = resource.resource }
  end
  return list
end

function web:close() self.process:close() end

return web
