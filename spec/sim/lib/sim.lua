-- For handlers of a simulated host: what they tell the simulation.
--
--   local sim = require "sim"
--   sim.note("began " .. msg.data)   a line of the run's notes
--   sim.burn(20)                     computes for 20 ms
local ffi = require "ffi"

if not pcall(ffi.typeof, "marker_sim_handler") then
  ffi.cdef [[
    void sim_handler_note(const char *text);
    void sim_handler_burn(double ms);
    typedef int marker_sim_handler;
  ]]
end

return {
  note = function(text) ffi.C.sim_handler_note(text) end,
  burn = function(ms) ffi.C.sim_handler_burn(ms) end,
}
