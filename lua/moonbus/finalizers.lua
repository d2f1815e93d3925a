--- Finalizers of the FFI that cannot raise. LuaJIT passes the error of one on to whatever allocates
--- when it runs, which may be the host, where nothing catches it: that would be the process's end.
local ffi = require("ffi")

local gc, metatype = ffi.gc, ffi.metatype
local done = false

--- From now on, in this state. complain(text): told of an error in one.
return function(complain)
  if done then return end
  done = true
  local guarded = setmetatable({}, { __mode = "v" })

  --- Whatever it is: a table may be callable, what is not raises when it is called, and so does a C
  --- function for a value that it does not take.
  local function guard(fn)
    if fn == nil then return nil end
    local safe = guarded[fn]
    if safe then return safe end
    function safe(value)
      local ok, err = pcall(fn, value)
      if ok then return end
      local described, text = pcall(tostring, err)
      pcall(complain, "an error in a finalizer: " .. (described and text or "?"))
    end
    guarded[fn] = safe
    return safe
  end

  rawset(ffi, "gc", function(value, fn) return gc(value, guard(fn)) end)

  rawset(ffi, "metatype", function(ct, metatable)
    if type(metatable) == "table" then rawset(metatable, "__gc", guard(rawget(metatable, "__gc"))) end
    return metatype(ct, metatable)
  end)
end
