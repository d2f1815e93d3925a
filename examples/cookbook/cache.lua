-- cache: a slow catalog is asked once for each product; when a product changes, every process forgets it at once.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus req products.get.tea                   (300 ms, then none)
--          moonbus req catalog.set '{"sku":"tea","cents":400}'
--          moonbus req products.get.tea                   (the new price)
local bus = require "moonbus"
local kv = require "moonbus.kv"

-- Whoever changes a product writes its key here. Only that it was written counts.
local changes = kv.bucket { name = "product_changes", ttl = "1h" }

local products = bus.cache("products", {
  ttl = "10m", -- in case somebody forgets to say what has changed
  stale = "1h", -- while the catalog is away, old products are better than none
  error_ttl = "1s", -- nor is it asked for each request then
  size = "32MB",
  load = function(sku)
    local reply, err = bus.request("catalog.get", { sku = sku }, { timeout = "2s" })
    if reply then return reply:json() end
    if err.code == "service_error" and err.status == 404 then return false end -- kept, too: there is none
    return nil, err
  end,
})

-- Each process sees each change. What is loaded at that moment is not kept: it may be of before.
changes:watch(">", { updates_only = true }, function(entry) products:delete(entry.key) end)

bus.subscribe("products.get.*", { queue = "products", timeout = "5s" }, function(msg)
  local sku = msg.subject:match "[^.]+$"
  local product, err = products:get(sku)
  if product == false then return nil, { status = 404, message = "no product " .. sku } end
  if not product then return nil, err end
  return product
end)

-- In the place of the catalog: it tells after it has written, never before.
local shelf = bus.shared "shelf"

bus.subscribe("catalog.get", { queue = "catalog" }, function(msg)
  bus.sleep "300ms"
  local sku = msg:json().sku
  local cents = shelf:get(sku) or ({ tea = 300, coffee = 500 })[sku]
  if not cents then return nil, { status = 404, message = "no such product" } end
  return { sku = sku, cents = cents }
end)

bus.subscribe("catalog.set", { queue = "catalog", schema = { sku = "string", cents = "integer" } }, function(_, body)
  shelf:set(body.sku, body.cents)
  local told, err = changes:put(body.sku, "")
  if not told then return nil, err end
  return "ok"
end)
