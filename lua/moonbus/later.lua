--- js.publish with `after` or `at`, and js.cancel: stored now, published later.
---
--- What is parked lies in a stream of ours, under a subject of its own, until a host publishes it
--- (host/bus/consume/later.h). In a stream that has schedules, the server does.
local core = require("moonbus.core")
local js_api = require("moonbus.js_api")
local misuse = require("moonbus.options_kinds").misuse

local M = {}

local STREAM = "MOONBUS_LATER"
local SUBJECTS = "moonbus.later."
local HEADER = "Moonbus-Later-"
local CONFIG = {
  name = STREAM, subjects = { SUBJECTS .. ">" }, retention = "workqueue", storage = "file",
  description = "what moonbus publishes later",
}

-- The stream --------------------------------------------------------------------------------------

local is_there = false -- as far as this state knows

local function of_use(config)
  if config.retention == "workqueue" then return true end
  return nil, core.error("mismatch", ("the stream %s is not as what is published later needs it: it has to have " ..
    "retention = \"workqueue\""):format(STREAM))
end

--- True, or nil and an error.
local function ensure()
  if is_there then return true end
  local info, err = js_api.call("js.publish", "STREAM.INFO." .. STREAM)
  if not info and err.api_code == js_api.STREAM_GONE then
    info, err = js_api.call("js.publish", "STREAM.CREATE." .. STREAM, CONFIG)
  end
  if not info then return nil, err end
  local ok
  ok, err = of_use(info.config or {})
  is_there = ok or false
  return ok, err
end

-- Parking -----------------------------------------------------------------------------------------

local function is_ours(name) return name:lower():find("^moonbus%-later%-") ~= nil end

--- What JetStream would act upon now is put aside until then.
local function park_headers(headers)
  local parked = {}
  for name, value in pairs(headers or {}) do
    local lower = type(name) == "string" and name:lower()
    if lower and lower:find("^nats%-") then
      if lower ~= "nats-msg-id" then parked[HEADER .. "Nats-" .. name:sub(6)] = value end
    elseif not lower or not is_ours(name) then
      parked[name] = value
    end
  end
  return parked
end

--- Something is parked there already: under this id it is our own, from before.
local function look_for(receipt, id)
  local parked, err = js_api.get("js.publish", receipt.stream, { last_by_subj = receipt.subject })
  if not parked then return nil, err end
  if parked:header(HEADER .. "Id") ~= id then
    return nil, core.error("wrong_sequence", ("\"%s\" is taken by another message"):format(receipt.subject))
  end
  receipt.seq, receipt.duplicate = parked.sequence, true
  return receipt
end

local function fail(err)
  core.js_failed(err.code, err.message)
  return nil, err
end

--- opts: as moonbus.options has checked them, with `at` in seconds since 1970. send: of moonbus.jetstream.
function M.publish(send, subject, data, opts)
  local text, content_type, id = core.js_prepare(subject, data, opts)
  id = id or core.later_id()
  local ok, err = ensure()
  if not ok then return fail(err) end
  core.later_serve()
  local receipt = { stream = STREAM, subject = SUBJECTS .. core.later_token(id), at = opts.at }
  local headers = park_headers(opts.headers)
  if opts.own then headers[HEADER .. opts.own.name] = opts.own.value end
  headers[HEADER .. "Subject"], headers[HEADER .. "Id"] = subject, id
  headers[HEADER .. "At"] = ("%.0f000000"):format(opts.at * 1000)
  local stored
  stored, err = send(receipt.subject, text, {
    id = id, headers = headers, timeout = opts.timeout, attempts = opts.attempts,
    expect = { last_subject_sequence = 0 },
  }, content_type)
  if stored then
    receipt.seq, receipt.duplicate = stored.seq, stored.duplicate
    return receipt
  end
  if err.code == "no_stream" then is_there = false end
  if err.code ~= "wrong_sequence" then return nil, err end
  ok, err = look_for(receipt, id)
  if not ok then return fail(err) end
  return receipt
end

-- Cancelling --------------------------------------------------------------------------------------

local function check_receipt(receipt)
  if type(receipt) ~= "table" then
    misuse(("js.cancel: expected what js.publish returned, got %s"):format(
      receipt == nil and "nothing" or "a " .. type(receipt)))
  end
  if type(receipt.at) ~= "number" then
    misuse("js.cancel: this was published at once: a receipt of js.publish with after or at has the field \"at\"")
  end
  if type(receipt.stream) ~= "string" or type(receipt.subject) ~= "string" or type(receipt.seq) ~= "number" then
    misuse("js.cancel: a receipt has the fields stream, subject and seq, as js.publish returned them")
  end
end

--- True: it will not be published. nil and an error "not_found": too late, or cancelled before.
function M.cancel(send, receipt)
  check_receipt(receipt)
  local stored, err = send(receipt.subject, "", {
    id = ("cancel:%s:%.0f"):format(receipt.stream, receipt.seq),
    headers = { [HEADER .. "State"] = "cancelled", [HEADER .. "Of"] = ("%.0f"):format(receipt.seq) },
    expect = { last_subject_sequence = receipt.seq },
  })
  if stored then return true end
  if err.code ~= "wrong_sequence" then return nil, err end
  return nil, core.error("not_found", ("%s #%.0f is not parked any more: it has been published, or cancelled")
    :format(receipt.stream, receipt.seq))
end

return M
