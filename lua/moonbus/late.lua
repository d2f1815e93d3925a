--- A module that few scripts want, loaded when something of it is used first: a state that has no use for it is
--- made sooner, and is smaller.
---
---     local cluster_lock = late("moonbus.cluster_lock")
local whole = require("moonbus.whole")

return function(name)
  return setmetatable({}, { __index = function(self, key)
    local module = whole(name)
    for field, value in pairs(module) do rawset(self, field, value) end
    setmetatable(self, nil)
    return module[key]
  end })
end
