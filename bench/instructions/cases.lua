-- What is counted: a handler of bench/handlers/ each, with messages of 128 bytes. baseline: the mode of the
-- bare C program, if it has another name. each: each message has a subject of its own. alone: there is
-- no such program, so only virtual time tells.
local cases = {
  { name = "receive", title = "core: receive", handler = "receive" },
  { name = "echo", title = "core: receive and publish one", handler = "echo" },
  { name = "respond", title = "request and reply", handler = "respond", request = true },
  { name = "consume", title = "consume and ack", handler = "consume", durable = true },
  { name = "relay", title = "consume, publish with PubAck, ack", handler = "relay", durable = true, stores = true },
  { name = "relay_json", title = "the same, JSON decoded and encoded", handler = "relay_json", durable = true,
    stores = true, json = true, baseline = "relay" },
  { name = "kv_watch", title = "a change of a bucket", handler = "kv_watch", subject = "$KV.bench.k", each = true,
    alone = true },
}

cases.MESSAGES = 1000

cases.by_name = {}
for _, case in ipairs(cases) do
  case.subject = case.subject or case.durable and "bench.js.in" or "bench.in"
  case.reply = case.request and "bench.out" or nil
  cases.by_name[case.name] = case
end

local ORDER = '{"id":4711,"customer":"ada","total":12.5,"items":[{"sku":"a-100","count":3,"price":2.75}],"note":"%s"}'

function cases.payload(case)
  if not case.json then return ("x"):rep(128) end
  return ORDER:format(("n"):rep(128 - #ORDER + 2))
end

return cases
