---@meta moonbus.replies

---@class moonbus.RequestManyOptions
---@field timeout? moonbus.Duration the time for all replies; default: `request_timeout` of the config
---@field max? integer so many replies are all
---@field stall? moonbus.Duration so long after a reply nothing came: it was the last one
---@field sentinel? true|fun(msg: moonbus.Message, err?: moonbus.Error): boolean? true: a reply without data is the end; or who returns true for it
---@field headers? moonbus.Headers

--- The replies to one request, for `for msg, err in replies do`; err: a service answered with that error.
---@class moonbus.Replies
---@field error? moonbus.Error why it ended, if that is a failure: `no_responders`, `timeout` (not one reply came)
---@field ended? "max"|"stall"|"sentinel"|"timeout"|"error"|"left" nil: it goes on
---@field count integer how many replies were given
---@field dropped integer how many came faster than they were taken, and found no room
---@overload fun(): moonbus.Message?, moonbus.Error?
local Replies = {}

--- No more of them.
function Replies:close() end
