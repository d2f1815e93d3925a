--- An object, read piece by piece: a function for loops, which raises what keeps it from being read to
--- its end, so that a part is never taken for the whole.
local core = require("moonbus.core")
local js_api = require("moonbus.js_api")
local messages = require("moonbus.messages")
local methods_of = require("moonbus.methods")
local task = require("moonbus.task")

--- Of an object of so few chunks each is asked for; of others the stream is read.
local FEW = 4
--- Another server may not have the last of them yet that were stored.
local TRIES, WAIT = 5, 0.2

local states = setmetatable({}, { __mode = "k" })

local function fail(code, text, ...)
  return core.error(code, text:format(...))
end

--- A message with the next chunk; nil when there is none. An error is raised.
local function next_of_few(state)
  local request = { seq = state.sequence + 1, next_by_subj = state.subject }
  local message, err = js_api.get(state.binding, state.stream, request, state.timeout)
  if message or err.code == "not_found" then return message end
  error(err, 0)
end

local function next_of_many(state)
  if not state.messages then
    local opts = { filter = state.subject, from = state.sequence + 1, timeout = state.timeout }
    local opened, err = messages(state.stream, opts)
    if not opened then error(err, 0) end
    state.messages = opened
  end
  local message = state.messages()
  if not message then state.messages = nil end
  return message
end

local function end_with(state, err)
  state.ended, state.failure = true, err
  if state.messages then state.messages:close() end
  state.messages = nil
  if err then error(err, 0) end
end

--- What makes a part of one missing: it is written anew, or deleted, while it is read.
local function missing(state)
  local info = state.info
  local now = state.look()
  if not now or now.deleted or now.nuid ~= info.nuid then
    return fail("not_found", "bucket %q: the object %q was replaced or deleted while it was read", info.bucket,
      info.name)
  end
  return fail("corrupt", "bucket %q: of the object %q there are %d of %d chunks", info.bucket, info.name, state.count,
    info.chunks)
end

local function next_message(state)
  for _ = 1, TRIES do
    local message = (state.info.chunks <= FEW and next_of_few or next_of_many)(state)
    if message then return message end
    task.resumed(core.sleep(WAIT, state.binding))
  end
  end_with(state, missing(state))
end

--- All chunks are there: are they what was stored?
local function finish(state)
  local info = state.info
  local digest = core.digest_text(state.digest)
  if state.size ~= info.size or info.digest and info.digest:gsub("=+$", "") ~= digest:gsub("=+$", "") then
    local text = "bucket %q: the object %q is not what was stored: %d bytes, %s; it says %d bytes, %s"
    end_with(state, fail("corrupt", text, info.bucket, info.name, state.size, digest, info.size,
      info.digest or "no digest"))
  end
  end_with(state)
end

local function next_piece(reader)
  local state = states[reader]
  if state.failure then error(state.failure, 0) end
  if state.ended then return nil end
  core.check("objects:open")
  if state.count >= state.info.chunks then return finish(state) end
  local message = next_message(state)
  local piece = message.data
  state.sequence, state.count, state.size = message.sequence, state.count + 1, state.size + #piece
  -- What is told of it bounds what is read, also where somebody else wrote that: who asked for no more than that
  -- gets no more.
  if state.size > state.info.size then
    end_with(state, fail("corrupt", "bucket %q: the object %q has more than the %d bytes that are told of it",
      state.info.bucket, state.info.name, state.info.size))
  end
  core.digest_add(state.digest, piece)
  return piece
end

local methods = methods_of({}, "object", nil, { info = true })

--- Nothing more is wanted.
function methods.close(reader)
  local state = states[reader]
  if not state then core.misuse("object:close: call it with a colon, on what objects:open returned") end
  if not state.ended then end_with(state) end
end

local Reader = {
  __call = next_piece,
  __index = function(reader, name)
    if name == "info" then return states[reader].info end
    return methods[name]
  end,
  __newindex = function() core.misuse("object: its fields cannot be set") end,
  __tostring = function(reader) return ("object %q"):format(states[reader].info.name) end,
  __metatable = "object",
}

--- info: of an object that is no link; look: gives what is told of it now.
return function(binding, info, timeout, look)
  local reader = setmetatable({}, Reader)
  states[reader] = {
    binding = binding, info = info, timeout = timeout, look = look, stream = "OBJ_" .. info.bucket,
    subject = ("$O.%s.C.%s"):format(info.bucket, info.nuid or ""), sequence = 0, count = 0, size = 0,
    digest = core.digest(),
  }
  return reader
end
