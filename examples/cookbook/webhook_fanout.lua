-- webhook_fanout: one event goes to many subscribers, and a broken one holds up nobody else.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus pub -J '$KV.webhooks.crm' '{"url":"https://httpbin.org/post"}'
--          moonbus pub -J events.order.paid '{"id":1}'
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local kv = require "moonbus.kv"

js.stream { name = "EVENTS", subjects = { "events.>" } }
js.stream { name = "DELIVERIES", subjects = { "deliveries.>" }, max_age = "7d", duplicate_window = "10m" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

local hooks = kv.bucket { name = "webhooks", cache = true } -- its keys are subscribers: { url = "..." }

-- Stage 1: a message of its own for each subscriber, so that each has its own retries. The id says which
-- event and which subscriber: when this runs again, it adds who was left out, and doubles nobody.
js.consume("EVENTS", { durable = "fanout", timeout = "20s", dead_letter = "dead.events" }, function(msg)
  local names, err = hooks:keys()
  if not names then return nil, err end
  for _, name in ipairs(names) do
    js.publish_async("deliveries." .. name, msg.data, { id = msg.id .. ":" .. name, headers = { Event = msg.id } })
  end
end)

local client = bus.http.client { timeout = "10s" }
local again = { [408] = true, [409] = true, [425] = true, [429] = true }

-- Stage 2: one POST. Subscribers drop what they have had by the key, which comes from the event.
js.consume("DELIVERIES", {
  durable = "webhooks",
  concurrency = 256, -- they wait for servers, most of the time
  timeout = "20s",
  attempts = 10,
  backoff = { min = "5s", max = "15m" }, -- about 50 minutes in all
  dead_letter = "dead.webhooks",
}, function(msg)
  local name = msg.subject:match "^deliveries%.(.+)$"
  local hook, err = hooks:get(name)
  if not hook and err.code == "not_found" then return msg:term "unsubscribed" end
  if not hook then return nil, err end

  local answer, failed = client:post(hook:json().url, {
    body = msg.data,
    headers = { ["Content-Type"] = "application/json" },
    idempotency_key = (msg.headers.event or msg.id) .. ":" .. name,
  })
  if not answer then return nil, failed end
  local status = answer.status
  if status < 300 then return end
  if status == 410 then
    hooks:delete(name, { revision = hook.revision }) -- unless it has come back meanwhile
    return msg:term "gone"
  end
  if status < 500 and not again[status] then return msg:reject(name .. " refuses it: " .. status) end
  local wait = tonumber(answer.headers["Retry-After"])
  if wait then return msg:nak(math.max(1, math.min(wait, 900))) end -- it says when
  return nil, ("%s answered %d"):format(name, status)
end)
