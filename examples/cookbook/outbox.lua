-- outbox: what a program has written into a table, in the transaction of its own data, is published: all of it,
-- in order, each row once.
--
-- Try it:  moonbus dev examples/cookbook                  (moonbus.lua: settings = { outbox = { dsn = "..." } })
--          moonbus sub --stream SHOP
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "SHOP", subjects = { "shop.>" }, duplicate_window = "1h" }

-- CREATE TABLE outbox (id bigserial PRIMARY KEY, payload text NOT NULL, sent_at timestamptz,
--   subject text NOT NULL CHECK (subject ~ '^shop([.][a-z0-9_-]+)+$'));
-- CREATE INDEX ON outbox (id) WHERE sent_at IS NULL;
local db = bus.offload("slow.outbox_db", { timeout = "10s" })
local settings = bus.settings.outbox -- { dsn = secret "OUTBOX_DSN" }
local PAGE = 200

-- Publishes one page; how many rows it had, or nil and an error.
local function publish_page()
  local rows, err = db.unsent(settings.dsn, PAGE)
  if not rows then return nil, err end
  local ids, failed = {}, nil
  for _, row in ipairs(rows) do
    -- The row's id is the message's: if we die before the table knows, the stream drops the second one.
    local stored, why = js.publish(row.subject, row.payload, { id = "outbox:" .. row.id })
    if not stored then
      failed = why
      break -- the next ones wait for it: that is what keeps the order
    end
    ids[#ids + 1] = row.id
  end
  if #ids > 0 then
    local noted, why = db.sent(settings.dsn, ids)
    if not noted then return nil, why end
  end
  if failed then return nil, failed end
  return #rows
end

-- Never on top of itself. An error is logged, and the next tick tries again: with no end, as nothing may be lost.
bus.every("1s", function()
  if not settings then return end
  repeat
    local count, err = publish_page()
    if not count then return nil, err end
  until count < PAGE
end)

bus.on("start", function()
  if not settings then bus.log.warn "the outbox has no database: settings.outbox.dsn in moonbus.lua" end
end)
