-- What the config and the variables of OpenTelemetry say of traces.
package.path = "lua/?.lua;" .. package.path
local config = require "moonbus.config"

local UNITS = { ms = 1e6, s = 1e9 }
local host = {
  duration = function(text)
    local number, unit = tostring(text):match "^(%d+)(%a+)$"
    if UNITS[unit] then return tonumber(number) * UNITS[unit] end
    return nil, "is no duration"
  end,
  size = function(text) return tonumber((text:gsub("MB", "000000"))) end,
  subject = function() return 1 end, name = function() return 1 end, json = function() return 1 end,
}

-- The settings by these variables, and by a file with `telemetry = ...`.
local function load(environment, file)
  local path
  if file then
    path = os.tmpname()
    local out = assert(io.open(path, "w"))
    out:write("return { telemetry = " .. file .. " }")
    out:close()
  end
  local result, complaint = config.load { file = path, environment = environment or {}, flags = {}, defaults = {},
    workers = 1, host = host, no_selected_context = true }
  if path then os.remove(path) end
  if not result then return nil, complaint end
  local function text(name) return result["telemetry." .. name] and table.concat(result["telemetry." .. name], " ") end
  local got = result.export
  got.timeout, got.warnings = result["telemetry.timeout"], table.concat(result.warnings, "\n")
  got.headers, got.attributes = text "headers", text "attributes"
  return got
end

local URL = "http://c:4318"

describe("telemetry", function()
  it("is off unless something says where traces go", function()
    assert.is_nil(load().url)
    assert.is_nil(load({ OTEL_SERVICE_NAME = "s", OTEL_TRACES_SAMPLER = "always_on" }).url)
  end)

  it("has the values of OpenTelemetry where nothing else is stated", function()
    local got = load({ OTEL_EXPORTER_OTLP_ENDPOINT = URL })
    assert.same({ url = URL .. "/v1/traces", service = "moonbus", sampler = "parentbased_always_on", sample = 1,
      timeout = 10e9, warnings = "" }, got)
  end)

  it("is told by OpenTelemetry's variables", function()
    local got = load {
      OTEL_EXPORTER_OTLP_ENDPOINT = URL .. "/base/", OTEL_EXPORTER_OTLP_HEADERS = "api-key=a%20b, x = 1",
      OTEL_EXPORTER_OTLP_TIMEOUT = "2500", OTEL_SERVICE_NAME = "shop",
      OTEL_RESOURCE_ATTRIBUTES = "service.name=other,team=a%2Cb", OTEL_TRACES_SAMPLER = "traceidratio",
      OTEL_TRACES_SAMPLER_ARG = "0.25",
    }
    assert.same({ url = URL .. "/base/v1/traces", service = "shop", sampler = "traceidratio", sample = 0.25,
      timeout = 2.5e9, headers = "api-key=a b x=1", attributes = "service.name=other team=a,b", warnings = "" }, got)
    assert.equal("other", load { OTEL_RESOURCE_ATTRIBUTES = "service.name=other" }.service)
    assert.equal("https://t/x", load { OTEL_EXPORTER_OTLP_ENDPOINT = URL,
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = "https://t/x" }.url)
    for _, url in ipairs { "https://t/x/", "https://t/", "https://t", "https://t/x?api-key=1/" } do -- as it is
      assert.equal(url, load { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = url }.url)
    end
    assert.equal("k=2", load { OTEL_EXPORTER_OTLP_HEADERS = "k=1", OTEL_EXPORTER_OTLP_TRACES_HEADERS = "k=2" }.headers)
  end)

  it("is told by the file, which OTEL_ variables win over, and MOONBUS_ ones over these", function()
    local file = '{ endpoint = "http://file", service = "file", sample = 0.5, headers = { authorization = "x" } }'
    local got = load(nil, file)
    assert.same({ "http://file/v1/traces", "file", "parentbased_traceidratio", 0.5, "authorization=x" },
      { got.url, got.service, got.sampler, got.sample, got.headers })
    got = load({ OTEL_EXPORTER_OTLP_ENDPOINT = URL, OTEL_SERVICE_NAME = "otel",
      MOONBUS_TELEMETRY_SERVICE = "ours" }, file)
    assert.same({ URL .. "/v1/traces", "ours" }, { got.url, got.service })
  end)

  it("is switched off by OpenTelemetry's switches", function()
    for _, environment in ipairs { { OTEL_SDK_DISABLED = "true" }, { OTEL_SDK_DISABLED = "TRUE" },
      { OTEL_TRACES_EXPORTER = "none" }, { MOONBUS_TELEMETRY_ENABLED = "false" } } do
      environment.OTEL_EXPORTER_OTLP_ENDPOINT = URL
      assert.is_nil(load(environment).url)
    end
    assert.is_truthy(load { OTEL_EXPORTER_OTLP_ENDPOINT = URL, OTEL_SDK_DISABLED = "1" }.url)
  end)

  it("warns of what OpenTelemetry's variables say and it does not know, and goes on", function()
    for name, value in pairs { OTEL_TRACES_SAMPLER = "jaeger_remote", OTEL_TRACES_SAMPLER_ARG = "much",
      OTEL_EXPORTER_OTLP_TIMEOUT = "soon", OTEL_EXPORTER_OTLP_HEADERS = "nonsense",
      OTEL_RESOURCE_ATTRIBUTES = "=,", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = "collector:4317" } do
      local got = load { OTEL_EXPORTER_OTLP_ENDPOINT = URL, [name] = value }
      assert.equal(URL .. "/v1/traces", got.url)
      assert.matches(name .. ": left out: ", got.warnings, 1, true)
    end
    assert.matches("moonbus speaks http/json", load { OTEL_EXPORTER_OTLP_ENDPOINT = URL,
      OTEL_EXPORTER_OTLP_PROTOCOL = "grpc" }.warnings, 1, true)
    assert.equal("", load { OTEL_EXPORTER_OTLP_PROTOCOL = "grpc" }.warnings)
  end)

  it("of the file is refused when it is wrong, by key", function()
    for file, said in pairs {
      ['{ endpoint = "collector:4318" }'] = 'telemetry.endpoint: must be a URL such as "http://127.0.0.1:4318"',
      ["{ sample = 2 }"] = "telemetry.sample: must be a number from 0 to 1",
      ['{ sampler = "sometimes" }'] = "telemetry.sampler: must be one of always_on",
      ['{ sampler = "always_on", sample = 0.1 }'] = 'telemetry.sample: has no meaning with the sampler "always_on"',
      ['{ headers = { "x" } }'] = "telemetry.headers: 1 is no name for one",
      ['{ headers = { ["a b"] = "x" } }'] = 'telemetry.headers: "a b" is no name for one',
      ['{ headers = { a = "x\\ny" } }'] = "telemetry.headers: a: must be one line of text",
      ['{ headers = { ["Content-Length"] = "7" } }'] = "is no name for one",
      ['{ headers = "k=v" }'] = "telemetry.headers: must be a table such as { authorization",
      ['{ endpont = "x" }'] = 'unknown key "telemetry.endpont" (did you mean "endpoint"?)',
    } do
      local got, complaint = load(nil, file)
      assert.is_nil(got, file)
      assert.is_truthy(complaint:find(said, 1, true), complaint)
    end
  end)
end)
