--- The options of js.consume about priority groups (ADR-42): `group`, with one of `pinned`, `overflow` and `priority`.
local common = require("moonbus.options_kinds")
local check, misuse, refuse = common.check, common.misuse, common.refuse

local M = {}

-- The API levels of JetStream with which nats-server 2.11 and 2.12 came.
local JS_2_11, JS_2_12 = 1, 2

local GROUP_DEFAULT = "moonbus"
local COUNT_MOST = 2 ^ 53

local function check_group(binding, field, value)
  if type(value) ~= "string" or #value > 16 or not value:find "^[%w/_=%-]+$" then
    refuse(binding, field, "1 to 16 letters, digits, and any of / _ = -", value)
  end
  return value
end

local PINNED = {
  fields = { timeout = { "duration", min = 1 } },
  hints = { ttl = "timeout", priority_timeout = "timeout" },
}

--- True, or a table; false is as if it were not there.
local function check_pinned(binding, field, value)
  if value == false then return nil end
  if value == true then value = {} end
  if type(value) ~= "table" then refuse(binding, field, 'true, or { timeout = "30s" }', value) end
  return check(binding .. ": " .. field, value, PINNED)
end

local OVERFLOW = {
  fields = {
    min_pending = { "integer", max = COUNT_MOST },
    min_ack_pending = { "integer", max = COUNT_MOST },
  },
  hints = { pending = "min_pending", ack_pending = "min_ack_pending", lag = "min_pending" },
}

local function check_overflow(binding, field, value)
  if type(value) ~= "table" then
    refuse(binding, field, "{ min_pending = 1000, min_ack_pending = 1000 }, or {} where it is served always", value)
  end
  return check(binding .. ": " .. field, value, OVERFLOW)
end

M.fields = {
  group = { check = check_group },
  pinned = { check = check_pinned },
  overflow = { check = check_overflow },
  priority = { "integer", min = 0, max = 9 },
}

M.hints = {
  pin = "pinned", pinned_client = "pinned", exclusive = "pinned", priority_group = "group",
  policy = "write pinned = true, overflow = { ... } or priority = N",
  min_pending = "write overflow = { min_pending = ... }",
  min_ack_pending = "write overflow = { min_ack_pending = ... }",
}

local NEEDS = {
  pinned = { level = JS_2_11, what = "pinned" },
  overflow = { level = JS_2_11, what = "overflow" },
  priority = { level = JS_2_12, what = "priority" },
  bound = { level = JS_2_11, what = "group" },
}

--- What is stated, by its name: "pinned", "overflow" or "priority"; nil: none.
local function stated(binding, spec)
  local found
  for _, name in ipairs { "pinned", "overflow", "priority" } do
    if spec[name] ~= nil then
      if found then misuse(("%s: %s and %s exclude each other"):format(binding, found, name)) end
      found = name
    end
  end
  return found
end

--- Brings the options into one form: spec.group and spec.policy, and what the server has to be able to do.
function M.read(binding, spec)
  local name = stated(binding, spec)
  if spec.group and not name and not spec.bind then
    misuse(binding .. ": group: say also what it is for: pinned = true, overflow = { ... } or priority = N")
  end
  if name then
    local policy = spec[name]
    if name == "priority" then policy = { priority = policy } end
    policy.name = name
    spec.policy, spec.group = policy, spec.group or GROUP_DEFAULT
  end
  if spec.group then spec.needs = NEEDS[name or "bound"] end
  spec.pinned, spec.overflow, spec.priority = nil, nil, nil
end

return M
