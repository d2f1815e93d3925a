---@meta moonbus

--- A time span: `"250ms"`, `"5s"`, `"1m30s"`, `"2h"`, or a number of seconds.
---@alias moonbus.Duration string|number

--- A size: `"64KB"`, `"64MB"`, `"1GB"` (1024-based), or a number of bytes.
---@alias moonbus.Size string|integer

--- What is sent: a string as it is (`content-type: text/plain`), a table as JSON
--- (`application/json`), nil as nothing.
---@alias moonbus.Data string|table|nil

--- Names and values; a list for several values of one name. No line breaks. A `content-type` here
--- wins over the one of the data.
---@alias moonbus.Headers table<string, string|number|(string|number)[]>

--- How something failed that was asked for correctly. Returned after `nil`; `tostring(err)` gives
--- `"code: message"`. Misuse (a wrong type, a wrong place) is raised instead, as a string with file
--- and line.
---@class moonbus.Error
---@field code moonbus.ErrorCode
---@field message string
---@field file? string of an `offload_error`: where it was raised
---@field line? integer of an `offload_error`
---@field traceback? string of an `offload_error`
---@field status? integer of a `service_error`: what the service answered, 400 or 500 from moonbus

---@alias moonbus.ErrorCode
---| "timeout"         # no answer in time
---| "no_responders"   # nobody serves the subject
---| "no_stream"       # no stream takes the subject
---| "disconnected"    # no connection, and the buffer is full
---| "too_large"       # above the server's max_payload
---| "permission"      # the server refuses the subject to this user
---| "settled"         # the message has had its verdict
---| "bad_payload"     # not JSON
---| "wrong_sequence"  # an `expect` that was not met
---| "service_error"   # the responder answered with an error; see `status`
---| "api_error"       # JetStream refused; the message has its words
---| "cancelled"       # the handler was told to end; always raised, never returned
---| "full"            # a bound of the host is reached
---| "lease_lost"      # the server may have given the message to someone else
---| "closed"          # the host is stopping
---| "offload_error"   # an offloaded function raised, or its module does not load
---| "not_found"       # no such module, function, stream, consumer or file
---| "memory"          # no memory
---| string

--- A message: what a handler gets, or what `bus.request` returns. Its fields cannot be set.
---@class moonbus.Message
---@field subject string
---@field data string the payload as it came
---@field headers table<string, string> read without regard to case; the first of several values
---@field reply? string where a core request wants its answer
---@field attempt? integer counts from 1; 1 for core messages; nil for replies
---@field timestamp? number seconds since 1970: stored at (JetStream), or arrived at (core)
---@field stream? string JetStream only
---@field consumer? string JetStream only: the durable
---@field sequence? integer JetStream only: in the stream
---@field pending? integer JetStream only: how many messages come after this one
---@field id? string JetStream only: the same over all redeliveries
local Message = {}

---@class moonbus.JsonOptions
---@field strict? boolean default true; false: `nil, err` instead of an error

--- The payload as JSON. Raises `bad_payload` when it is none, which sends a JetStream message
--- straight to the dead letter, and answers a core request with an error 400.
---@param opts? moonbus.JsonOptions
---@return any value
---@return moonbus.Error? err only with `strict = false`
function Message:json(opts) end

--- The first value of a header, its name compared without case.
---@param name string
---@return string?
function Message:header(name) end

--- All values of a header; an empty list when it is absent.
---@param name string
---@return string[]
function Message:header_values(name) end

---@class moonbus.RespondOptions
---@field headers? moonbus.Headers

--- Answers a core request now; what the handler returns then means nothing. Raises when there is no
--- reply subject.
---@param data moonbus.Data
---@param opts? moonbus.RespondOptions
---@return true? ok
---@return moonbus.Error? err
function Message:respond(data, opts) end

---@class moonbus.AckOptions
---@field sync? boolean wait until the server confirms it

--- Acknowledges now, instead of when the handler returns. JetStream only.
---@param opts? moonbus.AckOptions
---@return true? ok
---@return moonbus.Error? err code `settled` when it has had its verdict
function Message:ack(opts) end

--- Has it delivered again, after the delay. JetStream only.
---@param delay? moonbus.Duration default: the backoff of its attempt
---@return true? ok
---@return moonbus.Error? err
function Message:nak(delay) end

--- Drops it on purpose: no further delivery, no dead letter. JetStream only.
---@param reason? string for the log
---@return true? ok
---@return moonbus.Error? err
function Message:term(reason) end

--- It cannot be processed, ever: to the dead letter when the handler ends, without further
--- attempts; a core request is answered with an error 400.
---@param reason? string
---@return true? ok
---@return moonbus.Error? err
function Message:reject(reason) end

--- Tells the server that the work goes on. The host does it by itself; this does it now. JetStream
--- only.
---@return true? ok
---@return moonbus.Error? err
function Message:progress() end

---@class moonbus
local bus = {}

--- This program's version.
---@type string
bus.version = ""

--- `settings` of the config file.
---@type table
bus.settings = {}

---@class moonbus.SubscribeOptions
---@field queue? string a queue group: each message goes to one of its members
---@field timeout? moonbus.Duration the handler's limit, from its start; default 20s
---@field concurrency? integer handlers at a time, over all workers of this process; default 256
---@field drop? "new"|"old" which message goes when the queue is full; default "new"

--- Handles messages of core NATS. What the handler returns is the reply; `nil, err` or an error
--- is an error reply. Only while the script loads.
---@param subject string wildcards are allowed
---@param handler fun(msg: moonbus.Message): any, any
---@overload fun(subject: string, opts: moonbus.SubscribeOptions, handler: fun(msg: moonbus.Message): any, any)
function bus.subscribe(subject, handler) end

--- Runs once per process, when the script has begun to serve ("start"), or when its last handler
--- has ended ("stop"). Only while the script loads.
---@param event "start"|"stop"
---@param fn fun()
function bus.on(event, fn) end

---@class moonbus.ScriptOptions
---@field workers? integer Lua instances of this script at most; 1: its top-level locals exist once
---@field memory? moonbus.Size of one instance
---@field cpu? moonbus.Duration how long a handler may compute without waiting (limits.cpu)
---@field jit? boolean false: never compiled, so that every loop can be stopped where it is

--- This script's own limits. Only while the script loads.
---@param opts moonbus.ScriptOptions
function bus.script(opts) end

---@class moonbus.PublishOptions
---@field headers? moonbus.Headers
---@field reply? string where answers shall go

--- Publishes on core NATS: whoever listens now gets it. While disconnected it is kept, up to a
--- bound. Not sent, with the code "full", when too much of this script waits to be written.
---@param subject string
---@param data? moonbus.Data
---@param opts? moonbus.PublishOptions
---@return true? ok
---@return moonbus.Error? err
function bus.publish(subject, data, opts) end

---@class moonbus.RequestOptions
---@field timeout? moonbus.Duration default: `request_timeout` of the config
---@field headers? moonbus.Headers

--- Asks, and waits for the answer. An error reply is `nil, err` with code `service_error`.
---@param subject string
---@param data? moonbus.Data
---@param opts? moonbus.RequestOptions
---@return moonbus.Message? reply
---@return moonbus.Error? err
function bus.request(subject, data, opts) end

--- Waits. Other handlers go on meanwhile.
---@param duration moonbus.Duration
function bus.sleep(duration) end

--- Seconds since 1970.
---@return number
function bus.now() end

---@class moonbus.Timer
local Timer = {}

--- No further run; one that is under way goes on.
function Timer:cancel() end

--- Runs fn once, after the duration. At load: once per process; inside a handler: it ends with it.
---@param duration moonbus.Duration
---@param fn fun()
---@return moonbus.Timer
function bus.after(duration, fn) end

--- Runs fn again and again, never on top of itself. At load: once per process; inside a handler: it
--- ends with it.
---@param duration moonbus.Duration
---@param fn fun()
---@return moonbus.Timer
function bus.every(duration, fn) end

---@class moonbus.Future
---@field done boolean it has ended
local Future = {}

--- Waits until it has ended. Its results, or its error raised.
---@return any ...
function Future:wait() end

--- Cancels it: an error is raised at the function where it waits, or at the next one it calls. One
--- that has ended is left alone.
function Future:cancel() end

--- Runs fn beside the handler, which it ends with: what is still running then is cancelled. An
--- error that nobody waited for fails the handler.
---@param fn fun(...): ...
---@param ... any its arguments
---@return moonbus.Future
function bus.spawn(fn, ...) end

--- Runs all functions at a time, and waits for them: `local a, b = bus.gather { fa, fb }`. The
--- first result of each, in order. When one fails, the rest is cancelled and its error raised.
---@param functions (fun(): any)[]
---@return any ...
function bus.gather(functions) end

---@class moonbus.OffloadOptions
---@field timeout? moonbus.Duration of one call, the wait for a thread included; default 30s

--- The functions of a module, run on the host's offload threads: each call waits, and gives the
--- function's results, or `nil, err` (`offload_error` with `traceback`, `timeout`, `not_found`, ...).
--- Plain values in and out. Not while the script loads.
---@class moonbus.Offload
---@field [string] fun(...: moonbus.Plain): any ...

--- A proxy of a module whose functions may block; they have the whole Lua library.
---@param module string its name, as for require
---@param opts? moonbus.OffloadOptions
---@return moonbus.Offload
function bus.offload(module, opts) end

---@class moonbus.SharedOptions
---@field size? moonbus.Size bound of keys and values; default 16MB, or as it was stated before

---@class moonbus.SharedPutOptions
---@field ttl? moonbus.Duration forgotten after that; default: never

---@class moonbus.SharedIncrOptions
---@field init? number what a key that is not there begins with; default 0
---@field ttl? moonbus.Duration of a key that is not there; default: never

--- What is kept in a store: copied in and out.
---@alias moonbus.Plain nil|boolean|number|string|table

--- A store of the process. Not while the script loads.
---@class moonbus.Shared
local Shared = {}

---@param key string
---@return moonbus.Plain value nil: it is not there
function Shared:get(key) end

--- Replaces what was there, its ttl included.
---@param key string
---@param value moonbus.Plain
---@param opts? moonbus.SharedPutOptions
---@return true? ok
---@return moonbus.Error? err code `full` or `too_large`; nothing is evicted to make room
function Shared:set(key, value, opts) end

--- Only if the key is not there: else it gives false.
---@param key string
---@param value moonbus.Plain
---@param opts? moonbus.SharedPutOptions
---@return boolean? added
---@return moonbus.Error? err
function Shared:add(key, value, opts) end

--- Adds to a number, atomically. Raises when the value is none.
---@param key string
---@param by? number default 1
---@param opts? moonbus.SharedIncrOptions
---@return number? sum
---@return moonbus.Error? err
function Shared:incr(key, by, opts) end

---@param key string
---@return boolean was_there
function Shared:delete(key) end

--- The store of that name: one for all scripts, instances and generations of the process.
---@param name string
---@param opts? moonbus.SharedOptions
---@return moonbus.Shared
function bus.shared(name, opts) end

--- Lines of the log, with the handler, the message and the place in the script. `print` is
--- `bus.log.info`. What JSON cannot hold in the fields is described.
---@class moonbus.Log
local log = {}

---@param text any
---@param fields? table
function log.debug(text, fields) end

---@param text any
---@param fields? table
function log.info(text, fields) end

---@param text any
---@param fields? table
function log.warn(text, fields) end

---@param text any
---@param fields? table
function log.error(text, fields) end

bus.log = log

--- JSON, as payloads use it. Integers up to 2^53 survive exactly.
---@class moonbus.Json
---@field null lightuserdata null where a nil cannot stand: in arrays, and as a field that is sent
local json = {}

--- Raises for what JSON cannot hold, with its path.
---@param value any
---@return string
function json.encode(value) end

--- `null` in objects becomes nil, in arrays `bus.json.null`; an empty array stays one.
---@param text string
---@return any value
---@return moonbus.Error? err code `bad_payload`
function json.decode(text) end

--- Marks a table as an array, so that an empty one is `[]` and not `{}`.
---@generic T: table
---@param list? T
---@return T
function json.array(list) end

bus.json = json

return bus
