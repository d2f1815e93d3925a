---@meta moonbus.service

---@class moonbus.ServiceOptions
---@field name string letters, digits, dashes, underscores: of all processes that serve it
---@field version string a semantic version, as "1.0.0"
---@field description? string
---@field metadata? table<string, string>
---@field queue? string|false the queue group of its endpoints; default "q"; false: none, each process answers
---@field stats? fun(endpoint: moonbus.ServiceEndpoint): any of each endpoint that states none of its own

--- What a function `stats` is given; what it returns is the `data` of the endpoint's STATS.
---@class moonbus.ServiceEndpoint
---@field name string
---@field subject string
---@field queue? string
---@field metadata? table<string, string>

---@class moonbus.GroupOptions
---@field queue? string|false of the group's endpoints; default: as above it

---@class moonbus.EndpointOptions
---@field subject? string may have wildcards; default: the endpoint's name
---@field queue? string|false default: the group's, else the service's
---@field timeout? moonbus.Duration how long its handler may run; default 20s
---@field concurrency? integer handlers at a time; default 256
---@field drop? "new"|"old" which request is dropped when the queue is full; default "new"
---@field schema? moonbus.Schema what requests must be; what does not fit is answered with error 400
---@field metadata? table<string, string>
---@field stats? fun(endpoint: moonbus.ServiceEndpoint): any its `data` in STATS, asked every 5 s; default: the service's

--- A service, or a group of its endpoints.
---@class moonbus.Service
local Service = {}

--- Answers requests to `<group>.<subject>`, as bus.subscribe does. Only while the script loads.
---@param name string letters, digits, dashes, underscores
---@param opts moonbus.EndpointOptions
---@param fn fun(msg: moonbus.Message, body?: any): any, any
---@overload fun(self: moonbus.Service, name: string, fn: fun(msg: moonbus.Message): any, any)
function Service:endpoint(name, opts, fn) end

--- Endpoints whose subjects begin with `<prefix>.`
---@param prefix string
---@param opts? moonbus.GroupOptions
---@return moonbus.Service
function Service:group(prefix, opts) end
