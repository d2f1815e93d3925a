-- `telemetry`: where traces go, and which are recorded; and the variables of OpenTelemetry (OTEL_*),
-- which other programs of the environment read, too. What they say and moonbus does not know is warned
-- of, and no error: it may be meant for another program.
local kinds = require "moonbus.config_kinds"

local telemetry = {}

-- http://host:port, or https, with a path.
local function http_url(value, context)
  local what = 'a URL such as "http://127.0.0.1:4318"'
  if type(value) ~= "string" or not value:find "^https?://[^/%s%c]+[^%s%c]*$" then
    return nil, ("must be %s, not %s"):format(what, context.show(value))
  end
  return value
end

local function ratio(value, context)
  local number = context.text and value:match "^[%d.]+$" and tonumber(value) or value
  if type(number) ~= "number" or not (number >= 0 and number <= 1) then
    return nil, ("must be a number from 0 to 1, not %s"):format(context.show(value))
  end
  return number
end

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

-- "a=1,b=two%20words" as a map; nil: it is none.
local function parse_pairs(text)
  local map = {}
  for item in text:gmatch "[^,]+" do
    local name, value = item:match "^%s*([^=%s]+)%s*=%s*(.-)%s*$"
    if not name then return nil end
    map[unescape(name)] = unescape(value)
  end
  return map
end

-- A map of texts; as text, "name=value,name=value". Gives a list of "name=value". is_name: judges one.
local function map(is_name, what)
  return function(value, context)
    if context.text then value = parse_pairs(value) end
    if type(value) ~= "table" then
      return nil, ('must be a table such as { %s = "..." }%s'):format(what,
        context.text and (', as text "%s=..."'):format(what) or "")
    end
    local list = {}
    for name, text in pairs(value) do
      if type(name) ~= "string" or not is_name(name) then
        return nil, ("%s is no name for one"):format(type(name) == "string" and ("%q"):format(name)
          or tostring(name))
      end
      if type(text) == "number" or type(text) == "boolean" then text = tostring(text) end
      if type(text) ~= "string" or text:find "[%z\r\n]" then
        return nil, ("%s: must be one line of text"):format(name)
      end
      list[#list + 1] = name .. "=" .. text
    end
    table.sort(list)
    return list
  end
end

local headers = map(function(name)
  return name:find "^[%w!#$%%&'*+.^_`|~-]+$" and not name:lower():find "^content%-"
end, "authorization")

local attributes = map(function(name) return name:find "^[^%c=,]+$" end, "deployment")

local SAMPLERS = { "always_on", "always_off", "traceidratio", "parentbased_always_on",
  "parentbased_always_off", "parentbased_traceidratio" }

telemetry.leaves = {
  { "telemetry.enabled", kinds.boolean, default = true },
  { "telemetry.endpoint", http_url },
  { "telemetry.traces_endpoint", http_url },
  { "telemetry.headers", headers, secret = true },
  { "telemetry.timeout", kinds.duration "1ms", default = "10s" },
  { "telemetry.service", kinds.text },
  { "telemetry.attributes", attributes },
  { "telemetry.sampler", kinds.choice(SAMPLERS) },
  { "telemetry.sample", ratio },
}

-- What the value of a variable is as that of its setting.
local function milliseconds(text)
  return text:find "^%d+$" and text .. "ms" or text
end

local variables = {
  { "OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.endpoint" },
  { "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "telemetry.traces_endpoint" },
  { "OTEL_EXPORTER_OTLP_HEADERS", "telemetry.headers" },
  { "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "telemetry.headers" },
  { "OTEL_EXPORTER_OTLP_TIMEOUT", "telemetry.timeout", milliseconds },
  { "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "telemetry.timeout", milliseconds },
  { "OTEL_RESOURCE_ATTRIBUTES", "telemetry.attributes" },
  { "OTEL_SERVICE_NAME", "telemetry.service" },
  { "OTEL_TRACES_SAMPLER", "telemetry.sampler" },
  { "OTEL_TRACES_SAMPLER_ARG", "telemetry.sample" },
}

local function is_true(text) return text and text:lower() == "true" end

-- state(key, value, source): states a setting. warn(text): what is not taken.
---@param environment table<string, string>
---@param state fun(key: string, value: string, source: string): boolean, string?
---@param warn fun(text: string)
function telemetry.read(environment, state, warn)
  local known = 0
  for _, variable in ipairs(variables) do
    local name, key, convert = variable[1], variable[2], variable[3]
    local value = environment[name]
    if value and value ~= "" then
      local ok, complaint = state(key, convert and convert(value) or value, name)
      if ok then known = known + 1 else warn(("%s: left out: %s"):format(name, complaint)) end
    end
  end
  if is_true(environment.OTEL_SDK_DISABLED) or environment.OTEL_TRACES_EXPORTER == "none" then
    state("telemetry.enabled", "false", "OTEL_SDK_DISABLED")
  end
  local protocol = environment.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or environment.OTEL_EXPORTER_OTLP_PROTOCOL
  if known > 0 and protocol and protocol:find "^grpc" then
    warn(("the protocol of OTLP is %q, and moonbus speaks http/json: the endpoint has to be the "
      .. "collector's port for HTTP (4318)"):format(protocol))
  end
end

-- The service's name in a map of the resource, which OTEL_SERVICE_NAME wins over.
local function service_of(list)
  for _, item in ipairs(list or {}) do
    local name = item:match "^service%.name=(.+)$"
    if name then return name end
  end
end

-- Puts together what is to be done, as result.export: url (nil: nothing is exported), service, sampler,
-- sample. fail(source, complaint) raises.
---@param result table
---@param stated table
---@param fail fun(source: string, complaint: string)
function telemetry.judge(result, stated, fail)
  local base, traces = result["telemetry.endpoint"], result["telemetry.traces_endpoint"]
  local url = traces or base and base:gsub("/+$", "") .. "/v1/traces"
  local sampler, sample = result["telemetry.sampler"], result["telemetry.sample"]
  if sampler and sample and not sampler:find "traceidratio$" then
    local source = stated["telemetry.sample"]
    if source.layer ~= "otel" then
      fail(source.source, ("has no meaning with the sampler %q: say %q"):format(sampler,
        "parentbased_traceidratio"))
    end
  end
  result.export = {
    url = result["telemetry.enabled"] and url or nil,
    service = result["telemetry.service"] or service_of(result["telemetry.attributes"]) or result.name,
    sampler = sampler or (sample and "parentbased_traceidratio" or "parentbased_always_on"),
    sample = sample or 1,
  }
end

return telemetry
