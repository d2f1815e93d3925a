---@meta moonbus.time
-- Timers, and the options of what comes at times.

---@class moonbus.CronOptions
---@field tz? string a time zone of IANA; "local": the machine's; default "UTC"
---@field name? string how it is called in the log and the status; default: the line
---@field missed? "skip"|"last"|"all" what becomes of times at which it could not run; default "skip"
---@field timeout? moonbus.Duration of one run; default: none

---@class moonbus.Timer
local Timer = {}

--- No further run; one that is under way goes on.
function Timer:cancel() end
