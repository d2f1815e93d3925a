-- The process behind spec.support.web:  luajit web_process.lua PORT [CERT KEY]  (PORT may be the
-- path of a unix socket). An HTTP/1.1 server on one epoll loop, whose paths say how it behaves.
local bit = require "bit"
local cjson = require "cjson"
local ffi = require "ffi"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

ffi.cdef [[
  struct moonbus_web_event { unsigned int events; int fd, pad; } __attribute__((packed));
  struct moonbus_web_path { unsigned short family; char path[108]; };
  int listen(int fd, int backlog);
  int accept4(int fd, void *address, void *size, int flags);
  long send(int fd, const void *data, unsigned long size, int flags);
  int epoll_create1(int flags);
  int epoll_ctl(int epoll, int what, int fd, struct moonbus_web_event *event);
  int epoll_wait(int epoll, struct moonbus_web_event *events, int count, int timeout_ms);
  void *TLS_server_method(void);
  void *SSL_CTX_new(void *method);
  int SSL_CTX_use_certificate_chain_file(void *context, const char *path);
  int SSL_CTX_use_PrivateKey_file(void *context, const char *path, int kind);
  int SSL_CTX_load_verify_locations(void *context, const char *path, const char *folder);
  void SSL_CTX_set_verify(void *context, int mode, void *callback);
  void *SSL_new(void *context);
  int SSL_set_fd(void *ssl, int fd);
  void SSL_set_accept_state(void *ssl);
  int SSL_read(void *ssl, void *buffer, int size);
  int SSL_write(void *ssl, const void *data, int size);
  int SSL_get_error(void *ssl, int code);
  void SSL_free(void *ssl);
]]

local C = ffi.C
local EPOLLIN, EPOLLOUT = 1, 4
local CHUNK = 65536

local address, cert, key, client_ca = arg[1], arg[2], arg[3], arg[4]
local buffer = ffi.new("char[?]", CHUNK)
local one = ffi.new("int[1]", 1)
local libssl, context
if cert then
  libssl = ffi.load "ssl"
  context = libssl.SSL_CTX_new(libssl.TLS_server_method())
  assert(libssl.SSL_CTX_use_certificate_chain_file(context, cert) == 1, "the certificate")
  assert(libssl.SSL_CTX_use_PrivateKey_file(context, key, 1) == 1, "the key")
  if client_ca then
    libssl.SSL_CTX_load_verify_locations(context, client_ca, nil)
    libssl.SSL_CTX_set_verify(context, 3, nil) -- a certificate is wanted
  end
end

local epoll = C.epoll_create1(0)
local stats = { requests = 0, connections = 0, open = 0, running = 0, most = 0, sent = 0 }
local connections = {}
local collected = {}
local timers = {} -- { due, run }, the next one first

local function after(seconds, run)
  local due, place = wait.now() + seconds, #timers + 1
  while place > 1 and timers[place - 1].due > due do place = place - 1 end
  table.insert(timers, place, { due = due, run = run })
end

local function listen_on()
  local fd
  if tonumber(address) then
    fd = C.socket(2, 1 + 0x800, 0)
    C.setsockopt(fd, 1, 2, one, 4) -- SO_REUSEADDR
    if C.bind(fd, posix.loopback(tonumber(address)), 16) ~= 0 then posix.error "bind" end
  else
    fd = C.socket(1, 1 + 0x800, 0)
    local path = ffi.new("struct moonbus_web_path", { family = 1, path = address .. ".new" })
    if C.bind(fd, ffi.cast("void *", path), 110) ~= 0 then posix.error "bind" end
  end
  if C.listen(fd, 4096) ~= 0 then posix.error "listen" end
  if not tonumber(address) then os.rename(address .. ".new", address) end -- who sees it may connect
  return fd
end

local function watch(fd, what, events)
  C.epoll_ctl(epoll, what, fd, ffi.new("struct moonbus_web_event", { events = events, fd = fd }))
end

-- Connections -------------------------------------------------------------------------------------

local Connection = {}
Connection.__index = Connection

function Connection:close(abruptly)
  if connections[self.fd] ~= self then return end
  connections[self.fd] = nil
  stats.open = stats.open - 1
  if self.busy then stats.running = stats.running - 1 end
  if abruptly then -- SO_LINGER of 0: a reset
    C.setsockopt(self.fd, 1, 13, ffi.new("int[2]", { 1, 0 }), 8)
  end
  if self.ssl then libssl.SSL_free(self.ssl) end
  C.close(self.fd)
end

-- Bytes; nil when there are none for now; false at the end.
function Connection:receive()
  local count
  if self.ssl then
    count = libssl.SSL_read(self.ssl, buffer, CHUNK)
    if count <= 0 then
      local why = libssl.SSL_get_error(self.ssl, count)
      if why == 2 or why == 3 then return nil end
      return false
    end
  else
    count = tonumber(C.read(self.fd, buffer, CHUNK))
    if count < 0 and ffi.errno() == 11 then return nil end
    if count <= 0 then return false end
  end
  return ffi.string(buffer, count)
end

function Connection:transmit(data)
  if self.ssl then return libssl.SSL_write(self.ssl, data, #data) end
  return tonumber(C.send(self.fd, data, #data, 0x4000))
end

-- Sends what it can; more: makes more when all is sent.
function Connection:flush()
  while connections[self.fd] == self do
    if self.out == "" and self.more then self.out = self.more() or "" end
    if self.out == "" then break end
    local piece = self.out:sub(1, CHUNK)
    local sent = self:transmit(piece)
    if sent <= 0 then break end
    if self.more then stats.sent = stats.sent + sent end
    self.out = self.out:sub(sent + 1)
  end
  if connections[self.fd] ~= self then return end
  if self.out == "" and self.ending then return self:close(self.ending == "reset") end
  local events = EPOLLIN + (self.out ~= "" and EPOLLOUT or 0)
  if events ~= self.events then
    self.events = events
    watch(self.fd, 3, events)
  end
end

function Connection:send(data)
  self.out = self.out .. data
  self:flush()
end

-- Answers -----------------------------------------------------------------------------------------

local function done(connection)
  connection.busy = false
  stats.running = stats.running - 1
end

local REASONS = { [200] = "OK", [302] = "Found", [404] = "Not Found", [503] = "Service Unavailable" }

local function answer(connection, status, headers, body)
  body = body or ""
  local lines = { ("HTTP/1.1 %d %s"):format(status, REASONS[status] or "Whatever") }
  for _, line in ipairs(headers) do lines[#lines + 1] = line end
  lines[#lines + 1] = "Content-Length: " .. #body
  done(connection)
  if connection.old then connection.ending = "close" end
  local head = table.concat(lines, "\r\n") .. "\r\n\r\n"
  connection:send(connection.method == "HEAD" and head or head .. body)
end

local function chunk(text) return ("%x\r\n%s\r\n"):format(#text, text) end

local function unhex(text)
  return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

local CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

-- 64 MB of zeros in 64 KB.
local packed
local function bomb()
  local command = { "sh", "-c", "head -c 67108864 /dev/zero | gzip -9" }
  packed = packed or process.run { command = command, deadline = 60 }.stdout
  return packed
end

-- path ─▶ function(connection, request): the first pattern that matches; captures come last.
local PATHS = {
  -- The request as it came.
  { "^/echo", function(c, request) answer(c, 200, { "Content-Type: text/plain" }, request.text) end },
  { "^/number", function(c) answer(c, 200, {}, '{"items":[{"id":12345678901234567890}]}') end },
  { "^/json", function(c)
    answer(c, 200, { "Content-Type: application/json" }, '{"name":"ada","list":[1,2]}')
  end },
  { "^/status/(%d+)", function(c, _, status) answer(c, tonumber(status), {}, "it is " .. status) end },
  -- 503 for the first N requests of that name, then 200.
  { "^/flaky/(%d+)/(%w+)", function(c, request, count, name)
    stats[name] = (stats[name] or 0) + 1
    local key_seen = request.text:match "Idempotency%-Key: ([^\r\n]+)" or "none"
    answer(c, stats[name] <= tonumber(count) and 503 or 200, {}, key_seen)
  end },
  { "^/busy/(%w+)", function(c, _, name) -- says when to come again
    stats[name] = (stats[name] or 0) + 1
    answer(c, stats[name] == 1 and 429 or 200, { "Retry-After: 1" }, name)
  end },
  { "^/chat/", function(c) -- as APIs of language models stream it
    answer(c, 200, { "Content-Type: text/event-stream" },
      'data: {"choices":[{"delta":{"content":"Because "}}]}\n\n' ..
      'data: {"choices":[{"delta":{"content":"of air."}}]}\n\ndata: [DONE]\n\n')
  end },
  { "^/slow/(%d+)", function(c, _, ms)
    after(tonumber(ms) / 1000, function()
      if connections[c.fd] == c then answer(c, 200, {}, "late") end
    end)
  end },
  { "^/hang", function() end },
  { "^/half", function(c) c:send "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf" end },
  { "^/bytes/(%d+)", function(c, _, count) answer(c, 200, {}, ("x"):rep(tonumber(count))) end },
  { "^/stream/(%d+)", function(c, _, count) -- so many times 64 KB
    local left, piece = tonumber(count), chunk(("s"):rep(65536))
    c.more = function()
      left = left - 1
      if left >= 0 then return piece end
      c.more = nil
      done(c)
      return "0\r\n\r\n"
    end
    c:send(CHUNKED)
  end },
  { "^/chunked", function(c)
    c:send(CHUNKED .. chunk "one " .. chunk "two " .. chunk "three" .. "0\r\nX-Trailer: end\r\n\r\n")
    done(c)
  end },
  { "^/drip", function(c) -- a chunk every 10 ms
    c:send(CHUNKED)
    local count = 0
    local function drip()
      if connections[c.fd] ~= c then return end
      count = count + 1
      c:send(count <= 5 and chunk("drop " .. count .. "\n") or "0\r\n\r\n")
      if count <= 5 then after(0.01, drip) else done(c) end
    end
    drip()
  end },
  { "^/endless", function(c)
    local piece = chunk(("e"):rep(16384))
    c.more = function() return piece end
    c:send(CHUNKED)
  end },
  { "^/many%-headers", function(c)
    local number = 0
    c.more = function() number = number + 1 return ("X-%d: %s\r\n"):format(number, ("h"):rep(1000)) end
    c:send "HTTP/1.1 200 OK\r\n"
  end },
  -- So many interim answers, each of SIZE more bytes, before the one that is meant.
  { "^/interim/(%d+)/(%d+)", function(c, _, count, size)
    local left = tonumber(count)
    local one_more = ("HTTP/1.1 103 Early Hints\r\nLink: %s\r\n\r\n"):format(("l"):rep(tonumber(size)))
    c.more = function()
      left = left - 1
      if left >= 0 then return one_more end
      c.more = nil
      done(c)
      return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmeant"
    end
    c:flush()
  end },
  { "^/slow%-interim", function(c) -- one each 100 ms, for ever: it takes long until there are too many
    local function one_more()
      if connections[c.fd] ~= c then return end
      c:send "HTTP/1.1 103 Early Hints\r\n\r\n"
      after(0.1, one_more)
    end
    one_more()
  end },
  { "^/trailers", function(c)
    c:send(CHUNKED .. chunk "one" .. "0\r\n")
    c.more = function() return ("X-Trailer: %s\r\n"):format(("t"):rep(1000)) end
    c:flush()
  end },
  { "^/lengths/([^/]+)/([^/]+)", function(c, _, first, second)
    c.ending = "close"
    c:send(("HTTP/1.1 200 OK\r\nContent-Length: %s\r\nContent-Length: %s\r\n\r\nfive!"):format(first, second))
  end },
  { "^/long%-header", function(c)
    answer(c, 200, { "X-Long: " .. ("h"):rep(200000) })
  end },
  { "^/broken%-chunk", function(c) c:send(CHUNKED .. "zz\r\nwhat\r\n") end },
  { "^/garbage", function(c)
    c.ending = "close"
    c:send "SSH-2.0-OpenSSH_9.2\r\n\r\n"
  end },
  { "^/broken%-head/(%d+)", function(c, _, status)
    c.ending = "close"
    c:send(("HTTP/1.1 %s OK\r\nContent-Le"):format(status))
  end },
  { "^/folded", function(c)
    c:send("HTTP/1.1 200 OK\r\nX-Empty:\r\n  one\r\nX-List: a \r\n\tb: c  \r\n \r\n d\r\nContent-Length: 0\r\n\r\n")
  end },
  { "^/switch", function(c)
    c.ending = "close"
    c:send "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw bytes"
  end },
  { "^/nothing", function(c) c:close() end },
  { "^/reset", function(c) c:close(true) end },
  { "^/cut", function(c)
    c.ending = "close"
    c:send "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this"
  end },
  { "^/raw/(%w+)/(%x+)", function(c, _, encoding, hex)
    answer(c, 200, { "Content-Encoding: " .. encoding }, unhex(hex))
  end },
  { "^/bomb", function(c) answer(c, 200, { "Content-Encoding: gzip" }, bomb()) end },
  { "^/redirect/(%d+)", function(c, _, left)
    left = tonumber(left)
    answer(c, 302, { "Location: " .. (left > 1 and "/redirect/" .. left - 1 or "/echo") }, "moved")
  end },
  { "^/loop", function(c) answer(c, 302, { "Location: /loop" }) end },
  -- /to/307?http://other/...
  { "^/to/(%d+)%?(.*)", function(c, _, status, target)
    answer(c, tonumber(status), { "Location: " .. target }, "moved")
  end },
  -- /read/name: counts, and closes without an answer
  { "^/read/(%w+)", function(c, _, name)
    stats[name] = (stats[name] or 0) + 1
    c:close()
  end },
  { "^/exit", function() os.exit(0) end },
  -- /counted/name?http://other/...: counts, and leads on as after a form
  { "^/counted/(%w+)%?(.*)", function(c, _, name, target)
    stats[name] = (stats[name] or 0) + 1
    answer(c, 303, { "Location: " .. target }, "done")
  end },
  -- /collect/HOW/NAME/v1/traces: a collector of OpenTelemetry, whose requests /collected/NAME lists.
  -- HOW: take; busyN (429 N times, then it takes); part (it refuses two spans); no; hang.
  { "^/collect/(%a+)(%d*)/(%w+)/v1/traces", function(c, request, how, count, name)
    local list = collected[name] or {}
    collected[name] = list
    list[#list + 1] = cjson.encode { request = request.text }
    if how == "busy" and #list <= tonumber(count) then
      return answer(c, 429, { "Retry-After: 1" })
    end
    if how == "no" then return answer(c, 400, {}, "no") end
    if how == "hang" then return end
    answer(c, 200, { "Content-Type: application/json" },
      how == "part" and '{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}' or "{}")
  end },
  { "^/collected/(%w+)", function(c, _, name)
    answer(c, 200, {}, "[" .. table.concat(collected[name] or {}, ",") .. "]")
  end },
  { "^/cookies", function(c) answer(c, 200, { "Set-Cookie: a=1", "Set-Cookie: b=2", "X-Empty:" }) end },
  { "^/stats", function(c)
    local list = {}
    for name, value in pairs(stats) do
      if type(value) == "number" then list[#list + 1] = ("%q:%d"):format(name, value) end
    end
    answer(c, 200, {}, "{" .. table.concat(list, ",") .. "}")
  end },
}

local function serve(connection, request)
  if not request.path:find "^/stats" then stats.requests = stats.requests + 1 end
  connection.busy, connection.method, connection.old = true, request.method, request.old
  stats.running = stats.running + 1
  stats.most = math.max(stats.most, stats.running)
  for _, entry in ipairs(PATHS) do
    local captures = { request.path:match(entry[1]) }
    if captures[1] then return entry[2](connection, request, unpack(captures)) end
  end
  answer(connection, 404, {}, "no such path")
end

-- Reading requests --------------------------------------------------------------------------------

-- A whole request at the beginning of text, and what is behind it; nil: it is not whole.
local function parse(text)
  local head_end = select(2, text:find("\r\n\r\n", 1, true))
  if not head_end then return nil end
  local head = text:sub(1, head_end)
  local length = tonumber(head:lower():match "\r\ncontent%-length: *(%d+)") or 0
  if #text < head_end + length then return nil end
  local method, path, minor = head:match "^(%S+) (%S+) HTTP/1%.(%d)"
  path = (path or "/"):gsub("^http://[^/]+", "") -- as a proxy is asked
  return { method = method or "?", path = path, old = minor == "0",
    text = text:sub(1, head_end + length) },
    text:sub(head_end + length + 1)
end

function Connection:read()
  while true do
    local data = self:receive()
    if data == false then return self:close() end
    if data == nil then break end
    self.input = self.input .. data
  end
  if self.input:byte() == 0x16 then -- a TLS hello
    self.ending = "close"
    self.out = "HTTP/1.1 400 Bad Request\r\n\r\n"
  end
  while not self.busy and connections[self.fd] == self do
    local request, rest = parse(self.input)
    if not request then break end
    self.input = rest
    serve(self, request)
  end
  if connections[self.fd] == self then self:flush() end
end

local function accept(listener)
  while true do
    local fd = C.accept4(listener, nil, nil, 0x800)
    if fd < 0 then return end
    C.setsockopt(fd, 6, 1, one, 4)
    local connection = setmetatable({ fd = fd, input = "", out = "", events = EPOLLIN }, Connection)
    if context then
      connection.ssl = libssl.SSL_new(context)
      libssl.SSL_set_fd(connection.ssl, fd)
      libssl.SSL_set_accept_state(connection.ssl)
    end
    connections[fd] = connection
    stats.connections, stats.open = stats.connections + 1, stats.open + 1
    watch(fd, 1, EPOLLIN)
  end
end

local listener = listen_on()
watch(listener, 1, EPOLLIN)
local events = ffi.new "struct moonbus_web_event[64]"
while true do
  local patience = timers[1] and math.max(0, math.ceil((timers[1].due - wait.now()) * 1000)) or -1
  local count = C.epoll_wait(epoll, events, 64, patience)
  for index = 0, count - 1 do
    local fd, seen = events[index].fd, events[index].events
    local connection = connections[fd]
    if fd == listener then
      accept(listener)
    elseif connection then
      if bit.band(seen, bit.bnot(EPOLLOUT)) ~= 0 then connection:read() end
      if connections[fd] == connection then connection:flush() end
    end
  end
  while timers[1] and timers[1].due <= wait.now() do table.remove(timers, 1).run() end
end
