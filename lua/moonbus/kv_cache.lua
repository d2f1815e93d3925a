--- The cache of a bucket: the host keeps the last value of each key, which a watch brings
--- (engine/source/mirror.h); gets are answered from there, without the server.
local core = require("moonbus.core")
require("moonbus.middleware") -- first: it sees what is registered

--- It has no handler: nothing is run.
local function never() end

return {
  --- While the script loads: the cache of that stream, for core.mirror_get and mirror_note. cache:
  --- { max_bytes, max_age }.
  open = function(stream, cache)
    core.register("mirror", { stream = stream, max_bytes = cache.max_bytes, max_age = cache.max_age }, never)
    return core.mirror(stream)
  end,
}
