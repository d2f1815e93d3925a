-- The floors without Lua, through the FFI: units.include "base/wheel.h" declares what the header
-- declares (the header itself is read, so specs cannot drift from it), units.lib has the functions.
local ffi = require "ffi"
local posix = require "spec.support.posix"

local units = {}

local HEADERS = "host/"
local prelude = [[
typedef struct __natsMsg natsMsg;
typedef struct __natsConnection natsConnection;
typedef struct __natsSubscription natsSubscription;
typedef uint64_t atomic_uint_least64_t;
typedef int atomic_int;
typedef bool atomic_bool;
typedef size_t atomic_size_t;
typedef int marker_prelude;
]]

-- Declarations outlive the spec file that made them (busted gives each file fresh modules, but
-- the process has one FFI), so what says that they exist must be a declaration too.
local function declared(marker)
  return (pcall(ffi.typeof, marker))
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- Declares a header and those of ours that it includes, once in a process.
function units.include(header)
  if not declared "marker_prelude" then
    ffi.cdef(prelude)
  end
  local marker = "marker_" .. header:gsub("%W", "_")
  if declared(marker) then
    return
  end
  local text = read(header:find "^spec/" and header or HEADERS .. header):gsub("\\\n", " ")
  for included in text:gmatch '\n#include "([^"]+)"' do
    units.include(included)
  end
  text = ("\n" .. text):gsub("\n[ \t]*#[^\n]*", "\n"):gsub("\nstatic inline[^{;]*%b{}", "\n")
  text = text:gsub("_Alignas%b()", ""):gsub("%f[%w_]_Atomic ", "")
  text = text:gsub("%f[%w_]U?N?LOCKS%b()", ""):gsub("%f[%w_]NEEDS%b()", ""):gsub("MUTEX_TYPE", "")
  local ok, message = pcall(ffi.cdef, text .. "\ntypedef int " .. marker .. ";")
  if not ok then
    error(header .. ": " .. message, 2)
  end
end

units.lib = posix.load(os.getenv "MOONBUS_UNITS" or "build/libmoonbus_units.so")

units.include "base/err.h"

-- A `struct err` to hand in.
function units.err()
  return ffi.new "struct err"
end

-- Its code by its public name ("invalid"), and its sentence.
function units.read_err(err)
  return ffi.string(units.lib.err_name(err.code)), ffi.string(err.message)
end

return units
