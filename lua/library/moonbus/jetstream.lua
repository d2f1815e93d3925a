---@meta moonbus.jetstream

---@class moonbus.jetstream
local js = {}

--- A stream's settings, under NATS' own names; durations and sizes as everywhere in moonbus. What
--- is not named here is passed through.
---@class moonbus.StreamSettings
---@field name string
---@field update? boolean an existing stream with other settings is updated; default: in `dev` only
---@field subjects? string|string[]
---@field description? string
---@field storage? "file"|"memory"
---@field retention? "limits"|"interest"|"workqueue"
---@field discard? "old"|"new"
---@field compression? "none"|"s2"
---@field max_age? moonbus.Duration
---@field duplicate_window? moonbus.Duration
---@field max_bytes? moonbus.Size
---@field max_msg_size? moonbus.Size
---@field max_msgs? integer
---@field max_msgs_per_subject? integer
---@field max_consumers? integer
---@field num_replicas? integer
---@field deny_delete? boolean
---@field deny_purge? boolean
---@field allow_rollup_hdrs? boolean
---@field allow_direct? boolean
---@field metadata? table<string, string>
---@field [string] any

--- Makes sure of a stream: creates it if absent, else compares what is stated here with what the
--- server has. Only while the script loads.
---@param settings moonbus.StreamSettings
function js.stream(settings) end

--- How long to wait before the next attempt: `min * factor^(attempt - 1)`, at most `max`.
---@class moonbus.Backoff
---@field min? moonbus.Duration default 1s
---@field max? moonbus.Duration default 1m
---@field factor? number default 2
---@field jitter? number the share by which it may differ, either way; default 0.2
---@field park_after? moonbus.Duration a nak of more than that is parked outside of the durable, where the server has schedules (2.12)

---@class moonbus.ConsumeOptions
---@field durable string the consumer's name
---@field bind? boolean never create or update the consumer, only use it
---@field filter? string|string[] subjects; default: all of the stream; a list needs server 2.10
---@field ack_wait? moonbus.Duration default 30s; kept alive by the host
---@field timeout? moonbus.Duration the handler's limit, from its start; default 5m
---@field concurrency? integer handlers at a time, over all workers of this process; default 64
---@field attempts? integer deliveries, then the dead letter; without one it comes again at the longest backoff; default 5
---@field backoff? moonbus.Backoff
---@field order_by? "subject"|integer|string one at a time for each key: a token's number, "header:Name"
---@field batch? {size: integer, wait: moonbus.Duration?} the handler gets a list of messages
---@field dead_letter? string|false a subject that a stream takes; without one what fails is never given up; false: terminated
---@field deliver? "all"|"new"|"last"|"last_per_subject"|{sequence: integer}|{time: string} where a new consumer begins
---@field schema? moonbus.SchemaDefinition what payloads must be: the handler gets the decoded one as well
---@field max_ack_pending? integer default: derived from concurrency
---@field update? boolean an existing consumer with other settings is updated: true: always, false: never; default: if this script made it
---@field consumer? table NATS' own fields, passed through
---@field group? string the priority group; default "moonbus", with one of the next three
---@field pinned? boolean|{timeout: moonbus.Duration?} one process gets all messages (nats-server 2.11 and newer)
---@field overflow? {min_pending: integer?, min_ack_pending: integer?} from how many on this process is served (2.11)
---@field priority? integer 0 to 9: the process with the lowest number is served first (2.12)

--- Handles messages of a stream. Returning acknowledges, after the handler's publishes are stored;
--- `return nil, err` or an error naks with backoff. Only while the script loads.
---@param stream string
---@param opts moonbus.ConsumeOptions
---@param handler fun(msg: moonbus.Message, body: any): any, any
function js.consume(stream, opts, handler) end

--- What must be true of the stream, or the publish fails with code `wrong_sequence`.
---@class moonbus.Expect
---@field stream? string the stream that stores it
---@field last_sequence? integer the stream's last sequence
---@field last_subject_sequence? integer the last sequence of this subject, or of `subject`
---@field subject? string a subject or pattern (nats-server 2.11 and newer)
---@field last_id? string the message id of the stream's last message

---@class moonbus.JetStreamPublishOptions
---@field id? string the message id, by which a retry is told from another message; default: from
---the handler's input, or random
---@field headers? moonbus.Headers
---@field timeout? moonbus.Duration of one try
---@field attempts? integer tries
---@field from? moonbus.Message the message of the handler's batch that this comes from
---@field expect? moonbus.Expect
---@field ttl? moonbus.Duration|"never" when the message goes (nats-server 2.11 and newer, `allow_msg_ttl`)
---@field after? moonbus.Duration stored now, published so much later
---@field at? string|number the same at a point in time: RFC 3339, or seconds since 1970

---@class moonbus.Receipt
---@field stream string
---@field seq integer
---@field duplicate boolean a message of this id was stored before
---@field val? string of a stream of counters: the sum, in digits
---@field subject? string of what is published later: where it is parked
---@field at? number and when it is due, in seconds since 1970
---@field target? string its subject, if the server publishes it

--- Publishes to a stream, and waits until it is stored. Tries again under the same id. A failure,
--- but `wrong_sequence`, keeps the handler's input from being acknowledged, unless the handler gives
--- a verdict itself.
---@param subject string
---@param data? moonbus.Data
---@param opts? moonbus.JetStreamPublishOptions
---@return moonbus.Receipt? receipt
---@return moonbus.Error? err
function js.publish(subject, data, opts) end

--- A future of `js.publish`: waiting gives the receipt, or nil and the error.
---@class moonbus.ClusterCronOptions
---@field name string of the line, in the cluster
---@field tz? string a time zone of IANA; default "UTC"
---@field missed? "skip"|"last"|"all" what becomes of times at which it could not run; default "last"
---@field timeout? moonbus.Duration
---@field ack_wait? moonbus.Duration
---@field attempts? integer
---@field backoff? moonbus.Backoff
---@field dead_letter? string|false
---@field update? boolean
---@field stream? string one that takes `moonbus.cron.>`; default: MOONBUS_CRON
---@field schedule? "hosts"|"server" who fires (nats-server 2.14 and newer); default "hosts"

--- Runs fn at the times of a cron line, once per cluster, never on top of itself. At load. fn is given the
--- firing, a message of the durable `cron-NAME`, and the time that was planned, in seconds since 1970.
---@param line string
---@param opts moonbus.ClusterCronOptions
---@param fn fun(msg: moonbus.Message, time: number)
function js.cron(line, opts, fn) end

--- What was to be published later is not. true; nil and an error "not_found": it is too late. Waits.
---@param receipt moonbus.Receipt
---@return true? cancelled
---@return moonbus.Error? err
function js.cancel(receipt) end

---@class moonbus.PublishFuture: moonbus.Future
local PublishFuture = {}

---@return moonbus.Receipt? receipt
---@return moonbus.Error? err
function PublishFuture:wait() end

--- The same without waiting. The handler's input is acknowledged only after it is stored, whether
--- anybody waits or not.
---@param subject string
---@param data? moonbus.Data
---@param opts? moonbus.JetStreamPublishOptions
---@return moonbus.PublishFuture
function js.publish_async(subject, data, opts) end

---@class moonbus.CountOptions
---@field id? string the message id; default: from the handler's input, or random
---@field headers? moonbus.Headers
---@field timeout? moonbus.Duration of one try
---@field attempts? integer tries
---@field from? moonbus.Message the message of the handler's batch that this comes from

--- Adds to a counter, once for each input: the sum with that, as digits from 2^53 on. The stream needs
--- `allow_msg_counter`, and nats-server 2.12.
---@param subject string
---@param by? integer|string default 1; digits where no number holds it exactly
---@param opts? moonbus.CountOptions
---@return integer|string? sum
---@return moonbus.Error? err
function js.count(subject, by, opts) end

--- What was counted so far; 0: nothing.
---@param subject string
---@param opts? {stream: string?, timeout: moonbus.Duration?} stream: default: the one that takes the subject
---@return integer|string? sum
---@return moonbus.Error? err
function js.counter(subject, opts) end

--- Which stored message: of a sequence; the last of a subject; or the next of a pattern from a
--- sequence on.
---@class moonbus.StoredQuery
---@field sequence? integer
---@field last? string
---@field next? string

--- One message as it lies in a stream, read where the stream's leader is.
---@param stream string
---@param query moonbus.StoredQuery
---@param opts? {timeout: moonbus.Duration?}
---@return moonbus.Message? message
---@return moonbus.Error? err
function js.get(stream, query, opts) end

---What lies in a stream, in order: `for msg in js.messages("ORDERS") do ... end`.
---@class moonbus.Messages
---@field count integer so many were given
---@field ended? "end"|"error"|"left" nil: it goes on
---@overload fun(): moonbus.Message?
local Messages = {}

---Nothing more is wanted.
function Messages:close() end

---A sequence, a time as RFC 3339 has it, or how long ago ("1h").
---@alias moonbus.StreamPlace integer|string|{sequence: integer}|{time: string|number}

---@class moonbus.MessagesOptions
---@field filter? string|string[] only what it matches
---@field from? moonbus.StreamPlace the first one
---@field to? moonbus.StreamPlace the last one
---@field max? integer so many
---@field timeout? moonbus.Duration for opening it

---The messages of a stream, up to the last one that is there. A step raises when the rest cannot be read.
---@param stream string
---@param opts? moonbus.MessagesOptions
---@return moonbus.Messages? messages
---@return moonbus.Error? err
function js.messages(stream, opts) end

return js
