--- The options of what is published to JetStream, checked as moonbus.options does.
local common = require("moonbus.options_kinds")
local times = require("moonbus.options_time")
local kinds, check, misuse, refuse = common.kinds, common.check, common.misuse, common.refuse

local M = {}

-- The API levels of JetStream with which nats-server 2.11 and 2.12 came.
local JS_2_11, JS_2_12 = 1, 2

local EXPECT = {
  fields = {
    stream = "name",
    last_id = "token",
    last_sequence = { "integer", min = 0, max = 2 ^ 53 },
    last_subject_sequence = { "integer", min = 0, max = 2 ^ 53 },
    subject = "pattern",
  },
  hints = {
    last_seq = "last_sequence", last_msg_id = "last_id", sequence = "last_sequence",
    last_subject_seq = "last_subject_sequence", last_sequence_per_subject = "last_subject_sequence",
    last_subject = "subject", filter = "subject",
  },
}

local function check_expect(binding, field, value)
  kinds.table(binding, field, value)
  local expect = check(binding .. ": " .. field, value, EXPECT)
  if expect.subject and not expect.last_subject_sequence then
    misuse(("%s: %s.subject: it says of which subject last_subject_sequence is, and that is not stated")
      :format(binding, field))
  end
  return expect
end

local NEVER = "never"

--- Servers count it in seconds.
local function check_ttl(binding, field, value)
  if value == NEVER then return value end
  if type(value) == "string" and not value:find "%d" then
    refuse(binding, field, 'a duration from 1s on, or "never"', value)
  end
  return ("%.0fs"):format(math.ceil(kinds.duration(binding, field, value, { min = 1 })))
end

local PUBLISH = {
  fields = {
    id = "token",
    headers = "table",
    timeout = "duration",
    attempts = { "integer", max = 1000 },
    expect = { check = check_expect },
    from = "batched",
    ttl = { check = check_ttl },
    after = "duration",
    at = { check = times.at },
  },
  hints = {
    msg_id = "id", message_id = "id", header = "headers", retries = "attempts",
    retry_attempts = "attempts", ack_wait = "timeout", reply = "it belongs to bus.publish",
    expires = "ttl", expire = "ttl", max_age = "ttl (max_age belongs to js.stream)",
    expect_stream = "write expect = { stream = ... }",
    expected_stream = "write expect = { stream = ... }",
    expect_last_sequence = "write expect = { last_sequence = ... }",
    expected_last_seq = "write expect = { last_sequence = ... }",
    expect_last_msg_id = "write expect = { last_id = ... }",
    delay = "after", ["in"] = "after", when = "at", time = "at", deliver_at = "at", schedule = "at",
  },
}

--- What an old server would silently leave out, it must not be asked for.
local EXPECTS_SUBJECT = { level = JS_2_11, what = "expect.subject" }
local HAS_TTL = { level = JS_2_11, what = "ttl" }

--- binding: "js.publish" or "js.publish_async". `at` in seconds since 1970, if it is to be later.
function M.publish(opts, binding)
  local result = times.later(binding, check(binding or "js.publish", opts, PUBLISH))
  result.needs = result.ttl and HAS_TTL or result.expect and result.expect.subject and EXPECTS_SUBJECT or nil
  if result.ttl then result.own = { name = "Nats-TTL", value = result.ttl } end
  return result
end

-- Counters ----------------------------------------------------------------------------------------

local DIGITS_MOST = 100

--- A header's value: a sign and digits.
local function increment(binding, by)
  local wanted = 'a whole number, or one beyond 2^53 as a string of digits ("-9007199254740993")'
  if by == nil then return "+1" end
  if type(by) == "number" and by % 1 == 0 and math.abs(by) <= 2 ^ 53 then return ("%+.0f"):format(by) end
  local sign, digits = tostring(type(by) == "string" and by or ""):match "^([+-]?)(%d+)$"
  if not sign or #digits > DIGITS_MOST then refuse(binding, "by", wanted, by) end
  return (sign == "" and "+" or sign) .. digits
end

local COUNT = {
  fields = {
    id = "token",
    headers = "table",
    timeout = "duration",
    attempts = { "integer", max = 1000 },
    from = "batched",
  },
  hints = {
    msg_id = "id", message_id = "id", header = "headers", retries = "attempts",
    expect = "a counter takes every count: servers refuse an expectation of it",
    ttl = "a stream of counters has no ttl: servers refuse it", by = "it is the second argument",
    stream = "it belongs to js.counter: the stream that takes the subject counts",
  },
}
local COUNTS = { level = JS_2_12, what = "js.count" }

--- As of js.publish, with the header that counts.
function M.count(by, opts)
  local result = check("js.count", opts, COUNT)
  result.own, result.needs = { name = "Nats-Incr", value = increment("js.count", by) }, COUNTS
  return result
end

local COUNTER = {
  fields = { stream = "name", timeout = "duration" },
  hints = { max_wait = "timeout" },
}

function M.counter(subject, opts)
  kinds.subject("js.counter", "subject", subject)
  return check("js.counter", opts, COUNTER)
end

return M
