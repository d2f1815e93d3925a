-- For handlers of a simulated host: what they tell the simulation.
--
--   local sim = require "sim"
--   sim.note("began " .. msg.data)   a line of the run's notes
--   sim.burn(20)                     computes for 20 ms
local ffi = require "ffi"

-- A script's state is new, and loads this once: so nobody has declared them.
ffi.cdef [[
  void sim_handler_note(const char *text);
  void sim_handler_burn(double ms);
]]

return {
  note = function(text) ffi.C.sim_handler_note(text) end,
  burn = function(ms) ffi.C.sim_handler_burn(ms) end,
}
