---@meta moonbus

--- A time span: `"250ms"`, `"5s"`, `"1m30s"`, `"2h"`, or a number of seconds.
---@alias moonbus.Duration string|number

--- A size: `"64KB"`, `"64MB"`, `"1GB"` (1024-based), or a number of bytes.
---@alias moonbus.Size string|integer

--- What is sent: a string as it is, bytes without a `content-type`; a table as JSON
--- (`content-type: application/json`); nil as nothing.
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
---| "too_large"       # above the server's max_payload, or `max` of an HTTP answer
---| "permission"      # the server refuses the subject to this user
---| "settled"         # the message has had its verdict
---| "bad_payload"     # not JSON, or an integer that a number cannot hold
---| "wrong_sequence"  # an `expect` that was not met
---| "no_ack"          # sent to a stream that confirms nothing
---| "dns"             # HTTP: no such host
---| "refused"         # HTTP: nobody listens there
---| "tls"             # HTTP: the certificate is not accepted
---| "protocol"        # an answer is not JSON; HTTP: it is no HTTP, or redirects without end
---| "service_error"   # the responder answered with an error; see `status`
---| "api_error"       # JetStream refused; the message has its words
---| "cancelled"       # the handler was told to end; always raised, never returned
---| "full"            # a bound of the host is reached
---| "lease_lost"      # the server may have given the message to someone else
---| "closed"          # the host is stopping; or an HTTP connection ended too early
---| "offload_error"   # an offloaded function raised, or its module does not load
---| "not_found"       # no such module, function, stream, consumer or file
---| "memory"          # no memory
---| "invalid"         # a value that is not allowed where it stands
---| "handler_error"   # a handler raised or returned an error that has no code of this list
---| "cpu"             # it computed for longer than `limits.cpu` without waiting
---| "mismatch"        # the server has it with other settings
---| "taken"           # another script of this process handles it
---| "system"          # the operating system refused
---| "unavailable"     # JetStream has no leader or no quorum, for now
---| "exists"          # what was to be created is there
---| "corrupt"         # an object is not what was stored, by its digest
---| "unsupported"     # the server is too old for it
---| string

--- A message: what a handler gets, or what `bus.request` returns. Its fields cannot be set; a name that is none of
--- these raises.
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

--- What becomes of integers beyond 2^53, which a number cannot hold: `bad_payload`, a string with
--- their digits, or the nearest number.
---@alias moonbus.BigIntegers "error"|"string"|"number"

---@class moonbus.JsonOptions
---@field strict? boolean default true; false: `nil, err` instead of an error, and null is `bus.json.null`
---@field big? moonbus.BigIntegers default: `json.big` of the config, which is "error"

--- The payload as JSON. Raises `bad_payload` when it is none, or has integers beyond 2^53, which sends a JetStream message
--- straight to the dead letter, and answers a core request with an error 400. Of an answer: `protocol`.
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
--- reply subject, and in a handler with `reply = false`. Not sent, with the code `permission`, where
--- the reply subject is the server's own (`$JS...`).
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

--- `settings` of the config file; cannot be written.
---@type table
bus.settings = {}

---@class moonbus.SubscribeOptions
---@field queue? string a queue group: each message goes to one of its members
---@field timeout? moonbus.Duration the handler's limit, from its start; default 20s
---@field concurrency? integer handlers at a time, over all workers of this process; default 256
---@field drop? "new"|"old" which message goes when the queue is full; default "new"
---@field reply? boolean false: it only looks on, and never replies, not even with errors
---@field schema? moonbus.SchemaDefinition what payloads must be: the handler gets the decoded one as well

--- Handles messages of core NATS. What the handler returns is the reply, nothing is no reply, `""`
--- an empty one; `nil, err` or an error is an error reply. Only while the script loads.
---@param subject string wildcards are allowed
---@param handler fun(msg: moonbus.Message): any, any
---@overload fun(subject: string, opts: moonbus.SubscribeOptions, handler: fun(msg: moonbus.Message, body: any): any, any)
function bus.subscribe(subject, handler) end

---@class moonbus.OnOptions
---@field required? boolean "start": the version serves when it has ended, and fails with it
---@field timeout? moonbus.Duration its limit; default: none, 1m when it is required

--- Runs once per process, when the script has begun to serve ("start"), or when its last handler
--- has ended ("stop"). A "start" that fails is a reason in /readyz. Only while the script loads.
---@param event "start"|"stop"
---@param fn fun()
---@overload fun(event: "start"|"stop", opts: moonbus.OnOptions, fn: fun())
function bus.on(event, fn) end

---@class moonbus.ScriptOptions
---@field workers? integer Lua instances of this script at most; 1: its top-level locals exist once
---@field memory? moonbus.Size of one instance
---@field cpu? moonbus.Duration how long a handler may compute without waiting (limits.cpu)
---@field jit? boolean false: never compiled, so that every loop can be stopped where it is

--- This script's own limits. Only while the script loads.
---@param opts moonbus.ScriptOptions
function bus.script(opts) end

--- Runs fn around each handler of the script: those of messages, timers and hooks, in the order of the calls. What it
--- returns or raises is what the handler would have. `next` runs the rest, once; what it is not given stays as it is.
--- Only while the script loads.
---@param fn fun(msg: moonbus.Message|moonbus.Message[]|nil, next: fun(...: any): (...: any), ...: any): ...
function bus.use(fn) end

---@type moonbus.SchemaConstructors
bus.schema = nil

---@class moonbus.PublishOptions
---@field headers? moonbus.Headers
---@field reply? string where answers shall go

--- Publishes on core NATS: every subscriber of the moment gets it. While disconnected it is kept, up to a
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

--- Asks, and gives each answer, until `max`, `stall`, `sentinel` or `timeout` ends it.
---@param subject string
---@param data? moonbus.Data
---@param opts? moonbus.RequestManyOptions
---@return moonbus.Replies
function bus.request_many(subject, data, opts) end

--- A service of this process (ADR-32): found by `$SRV.PING`, `nats micro` and the like. Scripts that state the same have
--- one service together. Only while the script loads.
---@param settings moonbus.ServiceOptions
---@return moonbus.Service
function bus.service(settings) end

--- Waits. Other handlers go on meanwhile.
---@param duration moonbus.Duration
function bus.sleep(duration) end

--- Seconds since 1970.
---@return number
function bus.now() end

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

--- Runs fn at the times of a cron line ("0 3 * * *", "*/10 * * * * *", "@hourly", "@every 5m"), once per process,
--- never on top of itself. At load. fn is given the time that was planned, in seconds since 1970.
---@param line string
---@param opts moonbus.CronOptions
---@param fn fun(time: number)
---@return moonbus.Timer
---@overload fun(line: string, fn: fun(time: number)): moonbus.Timer
function bus.cron(line, opts, fn) end

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

---@class moonbus.HttpTls
---@field ca? string PEM file of the authorities to trust; default: the system's
---@field cert? string PEM file of the client's certificate
---@field key? string PEM file of its key
---@field verify? boolean false trusts everybody: for tests only

---@class moonbus.HttpOptions
---@field headers? table<string, string|number|boolean|(string|number|boolean)[]>
---@field query? table<string, string|number|boolean|(string|number|boolean)[]> put behind the URL, encoded
---@field body? string sent as it is
---@field json? any sent as JSON
---@field form? table<string, string|number|boolean|(string|number|boolean)[]> sent as a form
---@field timeout? moonbus.Duration of the whole; default 30s
---@field follow? boolean|integer redirects, at most; default 10
---@field downgrade? boolean true: a redirect from https to http is followed, too
---@field max? moonbus.Size of the body, after it is unpacked; default 8MB, with a sink none
---@field sink? fun(piece: string) gets the body of a 2xx piece by piece; it may wait
---@field tls? moonbus.HttpTls
---@field unix? string the socket to connect to, in place of the URL's host
---@field idempotency_key? string|boolean|moonbus.Message true: made from the input; in a batch, its message

---@class moonbus.HttpRequest : moonbus.HttpOptions
---@field url string
---@field method? string default GET, with a body POST

--- What a server has answered, whatever its status.
---@class moonbus.HttpAnswer
---@field status integer
---@field headers table<string, string> read without regard to case
---@field body string unpacked; empty when a sink got it
---@field url string where it came from
---@field redirects integer how many led there
local HttpAnswer = {}

--- The body as a value; nil and an error (`protocol`) when it is not JSON.
---@param opts? { big?: moonbus.BigIntegers }
---@return any value
---@return moonbus.Error? err
function HttpAnswer:json(opts) end

--- All values of a header, as they came.
---@param name string
---@return string[]
function HttpAnswer:header_values(name) end

---@class moonbus.HttpRetries
---@field attempts? integer default 3
---@field backoff? moonbus.Duration|{ min?: moonbus.Duration, max?: moonbus.Duration }
---@field on? (integer|moonbus.ErrorCode)[] statuses and codes after which it is tried again

---@class moonbus.HttpClientOptions
---@field base? string what stands before each path: "https://api.example.com/v1"
---@field headers? table<string, string|number|boolean|(string|number|boolean)[]>
---@field timeout? moonbus.Duration
---@field retries? moonbus.HttpRetries
---@field follow? boolean|integer
---@field downgrade? boolean
---@field max? moonbus.Size
---@field tls? moonbus.HttpTls
---@field unix? string
---@field idempotency_key? boolean a key of its own for each POST and PATCH

---@class moonbus.HttpClient
---@field request fun(self: moonbus.HttpClient, opts: moonbus.HttpRequest): moonbus.HttpAnswer?, moonbus.Error?
---@field get fun(self: moonbus.HttpClient, path: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field head fun(self: moonbus.HttpClient, path: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field post fun(self: moonbus.HttpClient, path: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field put fun(self: moonbus.HttpClient, path: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field patch fun(self: moonbus.HttpClient, path: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field delete fun(self: moonbus.HttpClient, path: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?

--- Calls of HTTP servers: an answer, or nil and an error (`timeout`, `dns`, `refused`, `tls`, `too_large`, `closed`,
--- `protocol`). They wait.
---@class moonbus.Http
---@field request fun(opts: moonbus.HttpRequest): moonbus.HttpAnswer?, moonbus.Error?
---@field get fun(url: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field head fun(url: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field post fun(url: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field put fun(url: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field patch fun(url: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field delete fun(url: string, opts?: moonbus.HttpOptions): moonbus.HttpAnswer?, moonbus.Error?
---@field client fun(opts?: moonbus.HttpClientOptions): moonbus.HttpClient for many calls that are alike
bus.http = {}

--- Values that are loaded when they are wanted, kept for the process: one load at a time for a key.
---@param name string
---@param opts moonbus.CacheOptions
---@return moonbus.Cache
function bus.cache(name, opts) end

--- A lock of the process, or with `cluster` of all hosts: waits until nobody else holds it. It is given back when the function that took it ends,
--- however it ends. With a function: runs it, and gives what it gives. Code `timeout` when `wait` is over.
---@param name string
---@param opts? moonbus.LockOptions
---@return moonbus.Lock? lock
---@return moonbus.Error? err
---@overload fun(name: string, fn: fun(lock: moonbus.Lock): ...): ...
---@overload fun(name: string, opts: moonbus.LockOptions, fn: fun(lock: moonbus.Lock): ...): ...
function bus.lock(name, opts) end

--- The same with several places: n may hold it at a time.
---@param name string
---@param n integer
---@param opts? moonbus.LockOptions
---@return moonbus.Permit? permit
---@return moonbus.Error? err
---@overload fun(name: string, n: integer, fn: fun(permit: moonbus.Permit): ...): ...
---@overload fun(name: string, n: integer, opts: moonbus.LockOptions, fn: fun(permit: moonbus.Permit): ...): ...
function bus.semaphore(name, n, opts) end

--- The rate limit of that name: one for all scripts, instances and generations of the process.
---@param name string
---@param opts moonbus.LimiterOptions
---@return moonbus.Limiter
function bus.limiter(name, opts) end

---@class moonbus.OffloadOptions
---@field timeout? moonbus.Duration of one call, the wait for a thread included; default: what its handler has left

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

--- JSON, as payloads use it. Integers up to 2^53 survive exactly; larger ones are refused, unless `big` says otherwise.
---@class moonbus.Json
---@field null lightuserdata null where a nil cannot stand: in arrays, and as a field that is sent
local json = {}

--- Raises for what JSON cannot hold, with its path.
---@param value any
---@return string
function json.encode(value) end

--- `null` in objects becomes nil, elsewhere `bus.json.null`; an empty array stays one.
---@param text string
---@param opts? { big?: moonbus.BigIntegers }
---@return any value
---@return moonbus.Error? err code `bad_payload`
function json.decode(text, opts) end

--- Marks a table as an array, so that an empty one is `[]` and not `{}`.
---@generic T: table
---@param list? T
---@return T
function json.array(list) end

bus.json = json

return bus
