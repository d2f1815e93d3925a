-- parcels: schema. A handler gets what fits, decoded and with its defaults; what does not fit never reaches it.
--
-- Try it:  moonbus dev examples/
--          moonbus req postage.quote '{"country":"PT","grams":500}'
--          moonbus req postage.quote '{"country":"Portugal","grams":500}'          (error 400, with the place)
--          moonbus pub -J parcels.sent '{"id":7,"to":{"country":"PT","grams":500},"items":[{"sku":"tea"}]}'
--          moonbus pub -J parcels.sent '{"id":"seven"}'                            (goes to dead.parcels)
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local s = bus.schema

js.stream { name = "PARCELS", subjects = { "parcels.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }

-- A schema is a value: what two handlers want is said once.
local address = {
  country = s.string { min = 2, max = 2, pattern = "^%u+$" },
  grams = s.integer { min = 1, max = 31500 },
  express = s.default("boolean", false),
}

bus.subscribe("postage.quote", { queue = "postage", schema = address }, function(_, parcel)
  return { cents = 350 + math.ceil(parcel.grams / 500) * (parcel.express and 200 or 50) }
end)

js.consume("PARCELS", {
  durable = "labels",
  filter = "parcels.sent",
  timeout = "20s",
  dead_letter = "dead.parcels",
  schema = {
    id = "integer",
    to = address,
    items = s.array({ sku = "string", count = s.default(s.integer { min = 1 }, 1) }, { min = 1 }),
    note = "string?",
  },
}, function(_, parcel)
  local count = 0
  for _, item in ipairs(parcel.items) do count = count + item.count end
  bus.log.info("label", { parcel = parcel.id, country = parcel.to.country, items = count, note = parcel.note })
end)
