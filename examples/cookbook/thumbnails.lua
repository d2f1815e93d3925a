-- thumbnails: images are resized on threads of their own, so no handler waits for another one's image.
--
-- Try it:  moonbus dev examples/cookbook          (needs ImageMagick's convert)
--          moonbus pub -J images.cat < cat.jpg
--          moonbus sub --stream THUMBNAILS --json
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "IMAGES", subjects = { "images.*" }, max_age = "1d" }
js.stream { name = "THUMBNAILS", subjects = { "thumbnails.>" }, max_msgs_per_subject = 1, duplicate_window = "5m" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

local image = bus.offload("slow.image", { timeout = "10s" }) -- slow/image.lua, with the whole library
local widths = { 64, 256 }

js.consume("IMAGES", {
  durable = "thumbnails",
  concurrency = 4, -- as many as there are threads (limits.offload_threads): more would only wait here
  timeout = "24s",
  dead_letter = "dead.thumbnails",
}, function(msg)
  local name = msg.subject:match "[^.]+$"
  for _, width in ipairs(widths) do
    local small, why = image.resize(msg.data, width)
    if not small then
      -- The module's own answer is a text: trying again would not help. An error of the host, or one that the
      -- module raised, is a table: a timeout, no memory, no `convert`. That may pass.
      if type(why) == "string" then return msg:reject(why) end
      return nil, why
    end
    js.publish(("thumbnails.%s.%d"):format(name, width), small, { headers = { ["Content-Type"] = "image/png" } })
  end
end)
