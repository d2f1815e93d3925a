-- llm: a call of minutes that costs money. Its text is published as it comes; whatever happens, the call is made
-- once: where nobody knows how it ended, a person decides.
--
-- Try it:  ollama run llama3.2                            (or any API that speaks OpenAI's chat completions)
--          moonbus dev examples/cookbook
--          moonbus sub 'progress.*'
--          moonbus pub -J prompts.p1 '{"text":"Why is the sky blue?"}'
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local kv = require "moonbus.kv"
local sse = require "parts.sse"

js.stream { name = "PROMPTS", subjects = { "prompts.*" } }
js.stream { name = "ANSWERS", subjects = { "answers.*" }, duplicate_window = "1h" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

local calls = kv.bucket { name = "llm_calls", ttl = "7d" } -- name -> { is = "begun", "free" or "done", by, text }
local settings = bus.settings.llm or {} -- { url, model, key = secret "LLM_KEY" }
local api = bus.http.client {
  base = settings.url or "http://127.0.0.1:11434/v1",
  headers = settings.key and { Authorization = "Bearer " .. settings.key } or nil,
  timeout = "9m", -- below the handler's: what came of it shall still be written down
}
local untouched = { dns = true, refused = true, tls = true } -- then the server has done nothing

-- The text; or nil, an error, and whether the call was not made at all.
local function ask(name, text)
  local sink, answered = sse.chat(function(bit) bus.publish("progress." .. name, bit) end)
  local body = { model = settings.model or "llama3.2", stream = true, messages = { { role = "user", content = text } } }
  local answer, err = api:post("/chat/completions", { json = body, sink = sink })
  if not answer then return nil, err.message, untouched[err.code] end
  if answer.status >= 300 then return nil, ("%d: %s"):format(answer.status, answer.body), true end
  if not answered.done then return nil, "the answer was cut off" end
  return answered.text
end

js.consume("PROMPTS", {
  durable = "llm",
  concurrency = 8,
  timeout = "10m",
  backoff = { min = "5s", max = "2m" },
  dead_letter = "dead.llm",
  schema = { text = "string" },
}, function(msg, prompt)
  local name = msg.subject:match "[^.]+$"
  local entry, missing = calls:get(name)
  if not entry and missing.code ~= "not_found" then return nil, missing end
  local call, revision = entry and entry:json() or { is = "free" }, entry and entry.revision or 0

  -- An id of its own for each attempt: what one has said does not stand for what another says.
  local function note(state)
    state.by = msg.id
    local at, err = calls:update(name, state, revision, { id = ("%s:%d:%s"):format(msg.id, msg.attempt, state.is) })
    revision = at or revision
    return at, err
  end

  if call.is ~= "free" and call.by ~= msg.id then return msg:term "asked before, by another message" end
  if call.is == "begun" then return msg:reject "its call was begun by a run that did not end: see COOKBOOK.md" end
  if call.is == "free" then
    local noted, err = note { is = "begun" } -- before the call: from now on it is not made again
    if not noted then return nil, err end
    local text, why, free = ask(name, prompt.text)
    if not text and not free then return msg:reject("nobody knows what came of its call: " .. why) end
    call = text and { is = "done", text = text } or { is = "free" }
    noted, err = note(call)
    if not noted or not text then return nil, err or why end
  end
  js.publish("answers." .. name, { text = call.text })
end)
