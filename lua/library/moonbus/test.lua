---@meta moonbus.test

--- Tests of handlers, run by `moonbus test`: docs/TESTING.md.
---@class moonbus.test
local test = {}

---@class moonbus.test.LoadOptions
---@field streams? moonbus.StreamSettings[] streams that another script declares
---@field stored? { subject: string, data?: string|table, headers?: moonbus.Headers }[] what these hold before it is served
---@field seed? number of all chance; default 1
---@field settings? table bus.settings, in place of the config's

--- Loads a handler file into a host and an empty server of its own. The path: from the current
--- folder, else from the test file's.
---@param path string
---@param options? moonbus.test.LoadOptions
---@return moonbus.test.Script
function test.load(path, options) end

--- A message of a file, as `moonbus replay --save` writes it.
---@class moonbus.test.Fixture
---@field subject string
---@field data string
---@field block? string its headers, as they go over the wire
---@field stream? string
---@field sequence? integer
---@field time? string
---@field consumer? string of a dead letter: who could not handle it
---@field attempt? integer

--- Reads such a file, for `script:deliver`. The path as of `load`.
---@param path string
---@return moonbus.test.Fixture
function test.fixture(path) end

--- Moves the clock of each script that is loaded. Returns what happened in the last of them.
---@param duration moonbus.Duration
---@return moonbus.test.Result
function test.advance(duration) end

--- The rest of the test makes sense in simulated time alone: with `moonbus test --server` it ends here, as pending.
---@param what "virtual time"
function test.needs(what) end

--- What makes values that fit.
---@class moonbus.test.Generator

--- A generator of values that fit a definition of `bus.schema`.
---@param definition any
---@return moonbus.test.Generator
function test.any(definition) end

--- The constructors of `bus.schema`, for bounds of what is made.
---@type moonbus.SchemaConstructors
test.schema = nil

---@class moonbus.test.PropertyOptions
---@field runs? integer default 100
---@field seed? integer default: another each time, or that of the command line

--- What holds for each value: raises with the smallest that is found for which it does not. With a name before the
--- rest, outside of a test, it is a test.
---@param values any a definition of `bus.schema`, or a generator
---@param fn fun(value: any)
---@param options? moonbus.test.PropertyOptions
---@overload fun(name: string, values: any, fn: fun(value: any), options?: moonbus.test.PropertyOptions)
function test.property(values, fn, options) end

--- A script under test.
---@class moonbus.test.Script
local script = {}

---@class moonbus.test.DeliverOptions
---@field headers? moonbus.Headers
---@field attempt? integer of a durable: which delivery it is
---@field reply? string|false of a request: `false`, none is asked for; or the subject for it
---@field handler? string which is meant, where several take the subject: `"greet.*"`
---@field stream? string
---@field consumer? string

--- Sends one message, and waits until its handler has ended. A durable's runs once: a nak stays on
--- its way until `run` or `advance`.
---@overload fun(self: moonbus.test.Script, fixture: moonbus.test.Fixture, options?: moonbus.test.DeliverOptions): moonbus.test.Result
---@param subject string
---@param data? string|table
---@param options? moonbus.test.DeliverOptions
---@return moonbus.test.Result
function script:deliver(subject, data, options) end

--- Sends a message, and waits for nothing.
---@param subject string
---@param data? string|table
---@param options? moonbus.test.DeliverOptions
---@return moonbus.test.Script
function script:send(subject, data, options) end

--- Lets time pass until each message of each durable has its end.
---@return moonbus.test.Result
function script:run() end

--- Lets so much time pass.
---@param duration moonbus.Duration
---@return moonbus.test.Result
function script:advance(duration) end

--- Answers requests to a subject, which may have wildcards.
---@param subject string
---@param answer string|table|fun(request: moonbus.test.Message): (string|table?, any?)
---@param options? { delay: moonbus.Duration }
---@return moonbus.test.Script
function script:stub(subject, answer, options) end

--- A bucket beside the script, to prepare and to look at.
---@class moonbus.test.Bucket
local bucket = {}

---@class moonbus.test.Entry
---@field key string
---@field data string|table the value; JSON as a table
---@field raw string the value
---@field revision integer

---@param key string
---@param value? string|table
---@return integer revision
function bucket:put(key, value) end

---@param key string
---@return integer revision
function bucket:delete(key) end

---@param key string
---@return integer revision
function bucket:purge(key) end

---@param key string
---@return moonbus.test.Entry?
function bucket:get(key) end

--- Those that have a value.
---@return string[]
function bucket:keys() end

--- The bucket of that name, which the script states with `kv.bucket`.
---@param name string
---@return moonbus.test.Bucket
function script:kv(name) end

---@class moonbus.test.ObjectOptions
---@field description? string
---@field headers? table<string, string>
---@field metadata? table<string, string>

---@class moonbus.test.Object
---@field name string
---@field data string|table JSON as a table
---@field raw string
---@field size integer
---@field digest string
---@field description? string
---@field headers? table<string, string>
---@field metadata? table<string, string>

--- A bucket of objects beside the script.
---@class moonbus.test.Objects
local objects = {}

---@param name string
---@param data? string|table a table as JSON
---@param options? moonbus.test.ObjectOptions
function objects:put(name, data, options) end

---@param name string
---@return moonbus.test.Object? nil where there is none
function objects:get(name) end

---@param name string
function objects:delete(name) end

---@return string[] names sorted
function objects:list() end

---@class moonbus.test.LockOptions
---@field ttl? moonbus.Duration default 30s: after that the script gets it
---@field cluster? string its bucket

--- Another host holds this lock of the cluster from now on.
---@param name string
---@param options? moonbus.test.LockOptions
---@return moonbus.test.Script
function script:hold_lock(name, options) end

--- That host gives it back.
---@param name string
---@param options? moonbus.test.LockOptions
---@return moonbus.test.Script
function script:release_lock(name, options) end

--- The bucket of objects of that name, which the script states with `objects.bucket`.
---@param name string
---@return moonbus.test.Objects
function script:objects(name) end

---@class moonbus.test.HttpCall
---@field method string
---@field url string
---@field headers table<string, string> read in any case
---@field raw string the body
---@field data string|table the body; JSON as a table

---@class moonbus.test.HttpAnswer
---@field status? integer default 200
---@field headers? table<string, string>
---@field body? string
---@field json? table in the place of `body`
---@field error? string a code of `bus.http`; `"timeout"`: no answer ever comes

--- Answers calls of `bus.http`. In the URL a `*` stands for any characters.
---@param url string
---@param answer string|moonbus.test.HttpAnswer|fun(call: moonbus.test.HttpCall): string|moonbus.test.HttpAnswer
---@param options? { method?: string, delay?: moonbus.Duration }
---@return moonbus.test.Script
function script:stub_http(url, answer, options) end

--- Answers calls of the functions of a module that the script has from `bus.offload`.
---@param module string
---@param functions table<string, any> name -> a function, the result, or `{ error = ... }`
---@param options? { delay: moonbus.Duration }
---@return moonbus.test.Script
function script:stub_offload(module, functions, options) end

---@class moonbus.test.Offloaded
---@field module string
---@field name string of the function
---@field arguments any[] with their number in `n`

--- Begins to serve, with its `start` hooks. The first use does so by itself.
---@return moonbus.test.Script
function script:start() end

--- What a stream holds.
---@param stream string
---@return moonbus.test.Message[]
function script:stored(stream) end

--- Ends its host. What is loaded in a test ends with it anyway.
function script:close() end

---@class moonbus.test.Message
---@field subject string
---@field data string|table JSON as a table
---@field raw string
---@field headers table<string, string> read in any case
---@field id? string
---@field sequence? integer of what is stored

---@class moonbus.test.Error
---@field code moonbus.ErrorCode
---@field message string
---@field file? string
---@field line? integer
---@field traceback? string

---@class moonbus.test.Run
---@field verdict "ack"|"nak"|"term"|"dead_letter"|"handed_back"|"ok"|"failed"
---@field handler string
---@field subject string
---@field attempt integer
---@field stream? string
---@field consumer? string
---@field sequence? integer
---@field delay? number of a nak, in seconds
---@field error? moonbus.test.Error

---@class moonbus.test.Result: moonbus.test.Run
---@field reply? string|table
---@field raw_reply? string
---@field reply_headers? table<string, string>
---@field published moonbus.test.Message[]
---@field requests moonbus.test.Message[]
---@field http moonbus.test.HttpCall[]
---@field offloaded moonbus.test.Offloaded[] that a stub answered
---@field dead_letters moonbus.test.Message[]
---@field dead_letter? moonbus.test.Message the first
---@field logged { level: string, message: string, fields: table? }[]
---@field runs moonbus.test.Run[]

return test
