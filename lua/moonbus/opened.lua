--- In `moonbus eval` a chunk runs when its script has loaded: a bucket is not made there, but used as
--- it is on the server.
local core = require("moonbus.core")

local in_eval = os.getenv("MOONBUS_EVAL_FOLDER") ~= nil

--- Is it only to be opened? Else the script must be loading. binding: "kv.bucket"; settings: as the
--- script gave them.
return function(binding, settings)
  if not in_eval or pcall(core.check_loading, binding) then
    core.check_loading(binding)
    return false
  end
  for name in pairs(settings) do
    if name ~= "name" then
      core.misuse(("%s: moonbus eval uses a bucket as it is: state its name alone"):format(binding))
    end
  end
  return true
end
