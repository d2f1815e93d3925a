-- What a replayed handler meets of the world: in the place of servers and streams. Nothing goes out,
-- but with `real` what the handler itself sends.
local base64 = require "moonbus.test.base64"
local cjson = require "cjson"
local keys = require "moonbus.cluster_key"
local messages = require "moonbus.test.messages"
local stubs = require "moonbus.test.stubs"
local web = require "moonbus.test.web"

local outside = {}
outside.__index = outside

local M = {}

-- server: moonbus.replay.server, opened, or nil. real: what is sent goes out. declared: streams with
-- their subjects, where no server tells.
function M.new(server, real, inbox)
  return setmetatable({ server = server, real = real, inbox = inbox or "_INBOX", streams = {}, next = {}, acks = {},
    missing = {}, sent = {}, own = {} }, outside)
end

-- --- publishes to JetStream ---

-- Of a bucket's subject its stream.
local function bucket_of(subject)
  local kind, bucket = subject:match "^%$(%u+)%.([^.]+)%."
  return kind == "KV" and "KV_" .. bucket or kind == "O" and "OBJ_" .. bucket or nil
end

-- The stream that takes a subject: its name; false: none does.
function outside:stream_of(subject)
  if not self.server then return bucket_of(subject) or "UNKNOWN" end
  if self.streams[subject] == nil then
    local name, code, why = self.server.stream_of(subject)
    if name == nil then error(("%s: %s"):format(code, why), 0) end
    self.streams[subject] = name
  end
  return self.streams[subject]
end

-- A sequence that it might have got.
local function next_sequence(self, stream)
  local sequence = self.next[stream]
  if not sequence then
    local info = self.server and self.server.info(stream)
    sequence = info and info.last + 1 or 1
  end
  self.next[stream] = sequence + 1
  return sequence
end

local function api_error(code, err_code, text)
  return cjson.encode { error = { code = code, err_code = err_code, description = text } }
end

local function publish_for_real(self, sent)
  local stream, sequence, duplicate = self.server.publish(sent.subject, sent.headers, sent.data)
  if stream then
    return cjson.encode { stream = stream, seq = sequence, duplicate = duplicate or nil },
      { stream = stream, sequence = sequence, duplicate = duplicate }
  end
  local code, why = sequence, duplicate
  if code == "no_stream" then return nil, { failed = why } end
  return api_error(code == "wrong_sequence" and 400 or 500, code == "wrong_sequence" and 10071 or 10049, why),
    { failed = why }
end

-- Of a counter (js.count) the sum that it would have.
local function sum_of(self, stream, sent)
  local by = tonumber(messages.read_block(sent.headers)["Nats-Incr"])
  if not by then return nil end
  local last = self.server and self.server.last(stream, sent.subject)
  return ("%.0f"):format((last and tonumber(last.data:match '"val"%s*:%s*"(%-?%d+)"') or 0) + by)
end

-- What the handler has published it reads, as if it were stored.
local function keep(self, stream, sequence, sent, sum)
  local message = { subject = sent.subject, seq = sequence, time = os.date "!%Y-%m-%dT%H:%M:%SZ",
    data = base64.encode(sum and cjson.encode { val = sum } or sent.data),
    hdrs = sent.headers ~= "" and base64.encode(sent.headers) or nil }
  self.own[stream .. " " .. sequence], self.own[stream .. " " .. sent.subject] = message, message
end

-- The PubAck of a publish, or nil: nobody takes it.
local function acknowledge(self, sent, letter)
  if self.real and self.live and not letter then return publish_for_real(self, sent) end
  local stream = self:stream_of(sent.subject)
  if not stream then return nil, {} end
  local sequence = next_sequence(self, stream)
  local sum = sum_of(self, stream, sent)
  keep(self, stream, sequence, sent, sum)
  return cjson.encode { stream = stream, seq = sequence, val = sum }, { stream = stream }
end

function outside:publish(script, sent, message, letter)
  local key = message.id .. "\0" .. sent.subject
  local known = self.acks[key]
  if not known then
    local text, receipt = acknowledge(self, sent, letter)
    known = { text = text, receipt = receipt }
    self.acks[key] = known
  end
  self.sent[key] = known.receipt
  if known.text then
    script.stage:publish(sent.reply, known.text, nil, nil, 0)
  else
    stubs.answer_error(script, sent, "no_responders", 0)
  end
end

-- A lock of the cluster is had in the replay alone.
function outside:lock(script, sent)
  local stream = bucket_of(sent.subject) or "UNKNOWN"
  local sequence = next_sequence(self, stream)
  keep(self, stream, sequence, sent)
  script.stage:publish(sent.reply, cjson.encode { stream = stream, seq = sequence }, nil, nil, 0)
end

-- What became of a message of script.record.published.
function outside:receipt(message)
  return message.id and self.sent[message.id .. "\0" .. message.subject]
end

-- --- requests ---

local function note_missing(self, kind, what)
  self.missing[#self.missing + 1] = { kind = kind, what = what }
end

function outside:request(script, sent)
  if not self.real then
    note_missing(self, "request", sent.subject)
    return stubs.answer_error(script, sent, { status = 503, message = ('nobody is asked in a replay: answer "%s" by '
      .. "--stub FILE, or ask for real with --for-real"):format(sent.subject) }, 0)
  end
  local data, block, why = self.server.request(sent.subject, sent.headers, sent.data)
  if data then return script.stage:publish(sent.reply, data, block, nil, 0) end
  if block == "no_responders" or block == "timeout" then return stubs.answer_error(script, sent, block, 0) end
  stubs.answer_error(script, sent, why, 0)
end

-- --- what streams hold ---

-- js.get and the like: the real streams, which reading does not change.
local READS = { "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.NAMES" }

local ALONE = { "$JS.API.STREAM.MSG.GET.>", "$JS.API.STREAM.INFO.>" }

local LOCKS = ".KV_" .. keys.BUCKET

-- Without a server: buckets are there, and empty. Those of locks are always.
local function answer_alone(subject)
  local operation, name = subject:match "^%$JS%.API%.STREAM%.(.+)%.([^.]+)$"
  local kind, bucket = (name or ""):match "^(%u+)_(.+)$"
  local subjects = kind == "KV" and { "$KV." .. bucket .. ".>" }
    or kind == "OBJ" and { "$O." .. bucket .. ".C.>", "$O." .. bucket .. ".M.>" }
  if not subjects then return api_error(404, 10059, "stream not found") end
  if operation == "MSG.GET" then return api_error(404, 10037, "no message found") end
  return cjson.encode { config = { name = name, subjects = subjects },
    state = { messages = 0, bytes = 0, first_seq = 0, last_seq = 0, consumer_count = 0 } }
end

function outside:read(script, sent)
  local stream = sent.subject:match "^%$JS%.API%.STREAM%.MSG%.GET%.(.+)$"
  local query = stream and messages.decode(sent.data)
  local own = type(query) == "table" and self.own[("%s %s"):format(stream, query.last_by_subj or query.seq or "")]
  if own then return script.stage:publish(sent.reply, cjson.encode { message = own }, nil, nil, 0) end
  local alone = not self.server or sent.subject:find(LOCKS, 1, true)
  if alone then return script.stage:publish(sent.reply, answer_alone(sent.subject), nil, nil, 0) end
  local data, block, why = self.server.request(sent.subject, sent.headers, sent.data)
  if data then return script.stage:publish(sent.reply, data, block, nil, 0) end
  stubs.answer_error(script, sent, (block == "no_responders" or block == "timeout") and block or why, 0)
end

local NO_CONSUMER = "js.messages and the like read nothing in a replay, which makes no consumer"

function outside:refuse_consumer(script, sent)
  note_missing(self, "messages", "reading in order (js.messages and the like) of "
    .. (sent.subject:match "%.CREATE%.([^.]+)" or "?"))
  script.stage:publish(sent.reply, api_error(400, 10025, NO_CONSUMER), nil, nil, 0)
end

-- The handler runs from now on.
function outside:begin(script)
  if not self.begun then
    self.begun = true
    script.stage:divert "$JS.API.CONSUMER.CREATE.>"
    for _, pattern in ipairs(self.server and READS or ALONE) do script.stage:divert(pattern) end
  end
  self.live, self.own = true, {}
end

-- --- as the hooks of moonbus.test.script ---

local function send(self, sent)
  if not self.real or not self.live then return end
  local ok, code, why = self.server.send(sent.subject, sent.headers, sent.data, sent.reply)
  if not ok then error(("%s: %s"):format(code, why), 0) end
end

-- They are the script's own: so that a run begins with its handler, outside.live is set then.
function outside:watch(script)
  function script.unanswered(_, sent)
    if sent.subject:find "^%$JS%.API%.CONSUMER%." then return self:refuse_consumer(script, sent) end
    if sent.subject:find "^%$JS%." then return self:read(script, sent) end
    local message = messages.message(sent.subject, sent.data, (messages.read_block(sent.headers)))
    if message.headers[keys.HEADER] then return self:lock(script, sent) end
    if message.id then return self:publish(script, sent, message, messages.is_letter(message)) end
    if sent.reply:sub(1, #self.inbox + 1) == self.inbox .. "." then return self:request(script, sent) end
    send(self, sent)
  end

  function script.unanswered_call(_, call)
    if self.real then return script.stage:go_out(call.number) end
    note_missing(self, "http", call.method .. " " .. call.url)
    web.answer_error(script, call, "refused", ("%s %s: nothing is called in a replay: answer it by --stub FILE, or "
      .. "call for real with --for-real"):format(call.method, call.url))
  end

  function script.on_sent(_, sent, message)
    message.block = sent.headers ~= "" and sent.headers or nil
    if not sent.reply then send(self, sent) end
  end
end

return M
