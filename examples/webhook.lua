-- webhook: HTTP. Each stored event is posted to a URL; a server that fails is tried again, first by
-- the client, then by the backoff, and the server is told by a key what it has had already.
--
-- Try it:  moonbus dev examples/
--          moonbus pub -J webhooks.order '{"url":"https://httpbin.org/post","event":{"id":1}}'
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "WEBHOOKS", subjects = { "webhooks.>" } }
js.stream { name = "WEBHOOKS_DEAD", subjects = { "undelivered.>" } }

local client = bus.http.client {
  timeout = "10s",
  retries = { attempts = 3, backoff = { min = "200ms", max = "2s" } },
  idempotency_key = true, -- the same in each attempt at a message
}

js.consume("WEBHOOKS", {
  durable = "webhooks",
  concurrency = 256, -- they wait for servers, most of the time
  attempts = 8,
  dead_letter = "undelivered.webhooks",
}, function(msg)
  local hook = msg:json()
  local answer, err = client:post(hook.url, { json = hook.event })
  if not answer then return nil, err end -- again, with the backoff
  if answer.status == 410 then return msg:term("the subscriber is gone") end
  if answer.status >= 300 then return nil, ("%s answered %d"):format(hook.url, answer.status) end
  bus.log.info("delivered", { url = hook.url, status = answer.status })
end)
