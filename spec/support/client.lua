-- An independent NATS client, to look at moonbus from outside: libnats through the FFI, with a
-- deadline on everything.
local ffi = require "ffi"
local cjson = require "cjson"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"

if not pcall(ffi.typeof, "struct moonbus_spec_nats") then
  ffi.cdef [[
    struct moonbus_spec_nats { int declared; };
    typedef struct __natsOptions natsOptions;
    typedef struct __natsConnection natsConnection;
    typedef struct __natsSubscription natsSubscription;
    typedef struct __natsMsg natsMsg;

    const char *natsStatus_GetText(int status);
    const char *nats_GetLastError(int *status);
    int natsOptions_Create(natsOptions **options);
    void natsOptions_Destroy(natsOptions *options);
    int natsOptions_SetServers(natsOptions *options, const char **urls, int count);
    int natsOptions_SetTimeout(natsOptions *options, int64_t timeout_ms);
    int natsOptions_SetMaxReconnect(natsOptions *options, int count);
    int natsOptions_SetReconnectWait(natsOptions *options, int64_t wait_ms);
    int natsOptions_SetReconnectJitter(natsOptions *options, int64_t jitter_ms, int64_t tls_ms);
    int natsOptions_SetUserInfo(natsOptions *options, const char *user, const char *password);
    int natsOptions_SetToken(natsOptions *options, const char *token);
    int natsOptions_SetNKeyFromSeed(natsOptions *options, const char *key, const char *seed_file);
    int natsOptions_SetUserCredentialsFromFiles(natsOptions *options, const char *creds,
                                                const char *seed_file);
    int natsOptions_SetSecure(natsOptions *options, bool secure);
    int natsOptions_LoadCATrustedCertificates(natsOptions *options, const char *file);
    int natsOptions_LoadCertificatesChain(natsOptions *options, const char *cert, const char *key);
    int natsConnection_Connect(natsConnection **connection, natsOptions *options);
    void natsConnection_Destroy(natsConnection *connection);
    int natsConnection_FlushTimeout(natsConnection *connection, int64_t timeout_ms);
    int natsConnection_Publish(natsConnection *connection, const char *subject, const void *data,
      int length);
    int natsConnection_PublishMsg(natsConnection *connection, natsMsg *message);
    int natsConnection_RequestMsg(natsMsg **reply, natsConnection *connection, natsMsg *request,
                                  int64_t timeout_ms);
    int natsConnection_SubscribeSync(natsSubscription **sub, natsConnection *connection,
                                     const char *subject);
    int natsConnection_QueueSubscribeSync(natsSubscription **sub, natsConnection *connection,
                                          const char *subject, const char *queue);
    int natsSubscription_NextMsg(natsMsg **message, natsSubscription *sub, int64_t timeout_ms);
    void natsSubscription_Destroy(natsSubscription *sub);
    int natsMsg_Create(natsMsg **message, const char *subject, const char *reply, const char *data,
                       int length);
    const char *natsMsg_GetSubject(const natsMsg *message);
    const char *natsMsg_GetReply(const natsMsg *message);
    const char *natsMsg_GetData(const natsMsg *message);
    int natsMsg_GetDataLength(const natsMsg *message);
    bool natsMsg_IsNoResponders(natsMsg *message);
    void natsMsg_Destroy(natsMsg *message);
    int natsMsgHeader_Add(natsMsg *message, const char *key, const char *value);
    int natsMsgHeader_Keys(natsMsg *message, const char ***keys, int *count);
    int natsMsgHeader_Values(natsMsg *message, const char *key, const char ***values, int *count);
    void free(void *pointer);
  ]]
end

local nats = posix.load "nats" -- by the link of libnats-dev, whichever release that is

local TIMEOUT, NO_RESPONDERS = "Timeout", "no responders available for request"
local REQUEST = 60 -- seconds for an answer that is expected

local function check(status, what)
  if status ~= 0 then
    local detail = nats.nats_GetLastError(nil)
    error(("%s: %s (%s)"):format(what, ffi.string(nats.natsStatus_GetText(status)),
      detail ~= nil and ffi.string(detail) or ""), 3)
  end
end

local function milliseconds(seconds)
  return math.ceil(seconds * wait.slow * 1000)
end

-- Messages -----------------------------------------------------------------------------------

local message = {}
message.__index = message

-- The first value of a header, its name in any case.
function message:header(name)
  for key, values in pairs(self.headers) do
    if key:lower() == name:lower() then return values[1] end
  end
end

function message:json() return cjson.decode(self.data) end

local function read_headers(raw)
  local headers = {}
  local keys, count = ffi.new "const char **[1]", ffi.new "int[1]"
  if nats.natsMsgHeader_Keys(raw, keys, count) ~= 0 then return headers end
  local values, many = ffi.new "const char **[1]", ffi.new "int[1]"
  for index = 0, count[0] - 1 do
    local key = keys[0][index]
    local list = {}
    if nats.natsMsgHeader_Values(raw, key, values, many) == 0 then
      for value = 0, many[0] - 1 do list[value + 1] = ffi.string(values[0][value]) end
      ffi.C.free(values[0])
    end
    headers[ffi.string(key)] = list
  end
  ffi.C.free(keys[0])
  return headers
end

-- Takes a natsMsg and gives { subject, reply, data, headers = { Name = { value, ... } } }.
local function read_message(raw)
  local reply = nats.natsMsg_GetReply(raw)
  local self = {
    subject = ffi.string(nats.natsMsg_GetSubject(raw)),
    reply = reply ~= nil and ffi.string(reply) or nil,
    data = ffi.string(nats.natsMsg_GetData(raw), nats.natsMsg_GetDataLength(raw)),
    headers = read_headers(raw),
  }
  nats.natsMsg_Destroy(raw)
  return setmetatable(self, message)
end

-- headers: { Name = "value" } or { Name = { "value", ... } }.
local function make_message(subject, data, headers, reply)
  local out = ffi.new "natsMsg *[1]"
  data = data or ""
  check(nats.natsMsg_Create(out, subject, reply, data, #data), "message for " .. subject)
  for key, values in pairs(headers or {}) do
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      check(nats.natsMsgHeader_Add(out[0], key, value), "header " .. key)
    end
  end
  return out[0]
end

-- Subscriptions ------------------------------------------------------------------------------

local subscription = {}
subscription.__index = subscription

local function next_within(self, seconds)
  local out = ffi.new "natsMsg *[1]"
  local status = nats.natsSubscription_NextMsg(out, self.raw, milliseconds(seconds))
  if status ~= 0 then return nil, ffi.string(nats.natsStatus_GetText(status)) end
  return read_message(out[0])
end

-- The next message, or nil when none came in `seconds`. Who says 5 s and more expects one, as who says nothing,
-- and waits as long as anybody (wait.allowed); who says less may expect none.
function subscription:next(seconds)
  if seconds and seconds < 5 then return next_within(self, seconds) end
  local began = wait.now()
  local got, why
  repeat
    got, why = next_within(self, 0.5)
  until got or why ~= TIMEOUT or wait.now() - began >= wait.allowed(seconds)
  return got, why
end

-- Exactly `count` messages; raises when they do not come within `seconds` (wait.allowed).
function subscription:take(count, seconds)
  local began, list = wait.now(), {}
  while #list < count do
    local got, why = next_within(self, 0.5)
    if not got and (why ~= TIMEOUT or wait.now() - began >= wait.allowed(seconds)) then
      error(("%d of %d messages came"):format(#list, count), 2)
    end
    list[#list + 1] = got
  end
  return list
end

-- What has arrived by now, without waiting.
function subscription:arrived()
  local list = {}
  repeat
    local got = self:next(0.001)
    list[#list + 1] = got
  until not got
  return list
end

function subscription:close()
  if self.raw then nats.natsSubscription_Destroy(self.raw) end
  self.raw = nil
end

-- The connection -----------------------------------------------------------------------------

local client = {}
client.__index = client

local function log_in(options, login)
  if login.user then nats.natsOptions_SetUserInfo(options, login.user, login.password) end
  if login.token then nats.natsOptions_SetToken(options, login.token) end
  if login.creds then
    check(nats.natsOptions_SetUserCredentialsFromFiles(options, login.creds, nil), login.creds)
  end
  if login.nkey_public then
    check(nats.natsOptions_SetNKeyFromSeed(options, login.nkey_public, login.nkey), login.nkey)
  end
  if login.tls_ca then
    check(nats.natsOptions_SetSecure(options, true), "TLS")
    check(nats.natsOptions_LoadCATrustedCertificates(options, login.tls_ca), login.tls_ca)
  end
  if login.tls_cert then
    check(nats.natsOptions_LoadCertificatesChain(options, login.tls_cert, login.tls_key),
      login.tls_cert)
  end
end

-- url: or a list of them, one of which will do. login: user and password, token, creds, nkey and
-- nkey_public, tls_ca, tls_cert and tls_key.
function client.connect(url, login)
  local options = ffi.new "natsOptions *[1]"
  check(nats.natsOptions_Create(options), "options")
  local urls = type(url) == "table" and url or { url }
  nats.natsOptions_SetServers(options[0], ffi.new("const char *[?]", #urls, urls), #urls)
  nats.natsOptions_SetTimeout(options[0], milliseconds(wait.least))
  nats.natsOptions_SetMaxReconnect(options[0], -1)
  nats.natsOptions_SetReconnectWait(options[0], 20)
  nats.natsOptions_SetReconnectJitter(options[0], 0, 0)
  log_in(options[0], login or {})
  local connection = ffi.new "natsConnection *[1]"
  -- nats.c 3.4.1 loses one signature of 256, so what signs is allowed another try.
  local tries = login and (login.creds or login.nkey) and 3 or 1
  local status
  repeat
    status = nats.natsConnection_Connect(connection, options[0])
    tries = tries - 1
  until status == 0 or tries == 0
  nats.natsOptions_Destroy(options[0])
  check(status, "connect to " .. table.concat(urls, ", "))
  return setmetatable({ raw = connection[0], subscriptions = {} }, client)
end

function client:close()
  if not self.raw then return end
  for _, sub in ipairs(self.subscriptions) do sub:close() end
  nats.natsConnection_Destroy(self.raw)
  self.raw = nil
end

-- Everything sent before has reached the server.
function client:flush()
  check(nats.natsConnection_FlushTimeout(self.raw, milliseconds(wait.least)), "flush")
end

-- Without waiting until the server has it: for many in a row.
function client:send(subject, data)
  check(nats.natsConnection_Publish(self.raw, subject, data, #data), "publish to " .. subject)
end

function client:publish(subject, data, headers, reply)
  local out = make_message(subject, data, headers, reply)
  local status = nats.natsConnection_PublishMsg(self.raw, out)
  nats.natsMsg_Destroy(out)
  check(status, "publish to " .. subject)
  self:flush()
end

-- The reply; or nil and "timeout" or "no responders". options: headers, timeout in seconds. Who says 5 s and more
-- expects one, as who says nothing, and waits for as long as a busy machine may take.
function client:request(subject, data, options)
  options = options or {}
  local request = make_message(subject, data, options.headers)
  local reply, seconds = ffi.new "natsMsg *[1]", options.timeout or wait.least
  if seconds >= 5 then seconds = math.max(seconds, REQUEST) end
  local status = nats.natsConnection_RequestMsg(reply, self.raw, request, milliseconds(seconds))
  nats.natsMsg_Destroy(request)
  if status == 0 then return read_message(reply[0]) end
  local text = ffi.string(nats.natsStatus_GetText(status))
  if text == TIMEOUT then return nil, "timeout" end
  if text:lower():find(NO_RESPONDERS, 1, true) then return nil, "no responders" end
  check(status, "request to " .. subject)
end

-- Subscribed at the server when it returns.
function client:subscribe(subject, queue)
  local out = ffi.new "natsSubscription *[1]"
  if queue then
    check(nats.natsConnection_QueueSubscribeSync(out, self.raw, subject, queue), subject)
  else
    check(nats.natsConnection_SubscribeSync(out, self.raw, subject), subject)
  end
  self:flush()
  local sub = setmetatable({ raw = out[0] }, subscription)
  table.insert(self.subscriptions, sub)
  return sub
end

function client:reply(request, data, headers)
  self:publish(request.reply, data, headers)
end

-- JetStream ----------------------------------------------------------------------------------

-- Calls JetStream's API: the decoded answer, with its `error` if it has one. A client of a cluster
-- is `patient`: it asks until somebody leads what it asks for.
function client:api(operation, body)
  local request = body and cjson.encode(body) or ""
  local function ask()
    local reply, reason = self:request("$JS.API." .. operation, request, { timeout = self.patient and 2 })
    local answer = reply and cjson.decode(reply.data)
    if answer and not (self.patient and answer.error and answer.error.code == 503) then return answer end
    error(operation .. ": " .. (reason or reply.data), 3)
  end
  return self.patient and wait.eventually(ask, 30) or ask()
end

local function must(answer, what)
  if answer.error then
    error(("%s: %s"):format(what, answer.error.description), 3)
  end
  return answer
end

-- The same of what was to be deleted: of a cluster that was asked twice the first request may have done it.
local function must_be_gone(self, answer, what)
  if self.patient and answer.error and answer.error.code == 404 then return answer end
  return must(answer, what)
end

-- Creates a stream; settings are NATS' own.
function client:stream(name, subjects, settings)
  local body = { name = name, subjects = subjects, storage = "memory", num_replicas = 1 }
  for key, value in pairs(settings or {}) do body[key] = value end
  return must(self:api("STREAM.CREATE." .. name, body), name)
end

-- Creates a durable pull consumer; settings are NATS' own.
function client:consumer(stream, durable, settings)
  local config = { durable_name = durable, ack_policy = "explicit" }
  for key, value in pairs(settings or {}) do config[key] = value end
  return must(self:api(("CONSUMER.DURABLE.CREATE.%s.%s"):format(stream, durable),
    { stream_name = stream, config = config }), durable)
end

function client:stream_info(stream)
  return must(self:api("STREAM.INFO." .. stream), stream)
end

function client:consumer_info(stream, durable)
  return must(self:api(("CONSUMER.INFO.%s.%s"):format(stream, durable)), durable)
end

function client:delete_stream(stream)
  return must_be_gone(self, self:api("STREAM.DELETE." .. stream), stream)
end

function client:delete_consumer(stream, durable)
  return must_be_gone(self, self:api(("CONSUMER.DELETE.%s.%s"):format(stream, durable)), durable)
end

function client:purge(stream)
  return must(self:api("STREAM.PURGE." .. stream), stream)
end

-- Publishes and waits for the PubAck, which it gives back.
function client:store(subject, data, headers)
  local reply, reason
  for _ = 1, self.patient and 15 or 1 do
    reply, reason = self:request(subject, data, { headers = headers })
    if reply then break end
  end
  if not reply then error("no PubAck for " .. subject .. ": " .. reason, 2) end
  return must(cjson.decode(reply.data), subject)
end

local function base64_decode(text)
  local out, bits, held = {}, 0, 0
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  for char in text:gmatch "[%w+/]" do
    held = held * 64 + alphabet:find(char, 1, true) - 1
    bits = bits + 6
    if bits >= 8 then
      bits = bits - 8
      local byte = math.floor(held / 2 ^ bits)
      out[#out + 1] = string.char(byte)
      held = held - byte * 2 ^ bits
    end
  end
  return table.concat(out)
end

local function stored_headers(text)
  local headers = {}
  for line in (text or ""):gmatch "[^\r\n]+" do
    local key, value = line:match "^([^:]+): ?(.*)$"
    if key then
      headers[key] = headers[key] or {}
      table.insert(headers[key], value)
    end
  end
  return headers
end

-- The message stored under a sequence, or nil.
function client:message(stream, sequence)
  local answer = self:api("STREAM.MSG.GET." .. stream, { seq = sequence })
  if answer.error then return nil end
  local stored = answer.message
  return setmetatable({
    subject = stored.subject, sequence = stored.seq, time = stored.time,
    data = base64_decode(stored.data or ""),
    headers = stored_headers(base64_decode(stored.hdrs or "")),
  }, message)
end

-- All messages of a stream, in order.
function client:messages(stream)
  local state = self:stream_info(stream).state
  local list = {}
  for sequence = state.first_seq, state.last_seq do
    list[#list + 1] = self:message(stream, sequence)
  end
  return list
end

-- Every message that the stream has for this durable was delivered and settled.
function client:settled(stream, durable)
  local info = self:consumer_info(stream, durable)
  return info.num_pending == 0 and info.num_ack_pending == 0
end

-- Waits until that is so, at most `deadline` seconds (10).
function client:await_settled(stream, durable, deadline)
  wait.eventually(function() return self:settled(stream, durable) end, deadline or 10,
    ("%s/%s is settled"):format(stream, durable))
end

-- The messages of a stream, when there are `count`.
function client:await_stored(stream, count, deadline)
  wait.eventually(function()
    return self:stream_info(stream).state.messages >= count
  end, deadline, stream .. " has too few messages")
  return self:messages(stream)
end

-- Deletes all streams.
function client:wipe()
  local answer = self:api "STREAM.NAMES"
  if answer.error then return end
  for _, name in ipairs(answer.streams ~= cjson.null and answer.streams or {}) do
    self:delete_stream(name)
  end
end

return client
