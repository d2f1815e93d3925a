-- The documents have what there is: each option that a handler may state has its line in the reference, each setting
-- its row, each option of a command its line. Where links lead and what pages name is looked at by .ci/pages, whose
-- rules are shown in names_spec.lua.
local function read(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

describe("The documents", function()
  it("name nothing that is not there", function()
    local pipe = io.popen ".ci/pages 2>&1"
    local said = pipe:read "*a"
    pipe:close()
    assert.equal("", said)
  end)

  -- As the help lists it: one without a text is another spelling, or the host's own.
  it("have each option of the command line", function()
    local pages, missing, count = read "docs/OPERATING.md" .. read "docs/TESTING.md", {}, 0
    for row in read "host/cli/options.c":match "specs%[%] = {(.-)\n};":gmatch "%b{}" do
      local spelling = row:match '^{"(%-%-[%l-]+)"'
      if spelling and not row:find ", NULL}$" then
        count = count + 1
        if not pages:find(spelling:gsub("%-", "%%-") .. "%f[^%l-]") then missing[#missing + 1] = spelling end
      end
    end
    assert.is_true(count > 60)
    assert.same({}, missing)
  end)
end)

describe("The reference", function()
  local kept = {}
  local options
  setup(function()
    kept.path, kept.core = package.path, package.loaded["moonbus.core"]
    package.path, package.loaded["moonbus.core"] = "lua/?.lua;" .. package.path, {}
    options = setmetatable({}, { __index = require "moonbus.options" })
    for name, check in pairs(require "moonbus.options_shared") do options[name] = check end
  end)
  teardown(function()
    package.path, package.loaded["moonbus.core"] = kept.path, kept.core
    for _, name in ipairs { "options", "options_core", "options_group", "options_kinds", "options_publish",
      "options_shared", "nearest" } do
      package.loaded["moonbus." .. name] = nil
    end
  end)

  -- The fields of an options table, which the function that checks it keeps as an upvalue, or one that
  -- it calls.
  local function fields_of(check)
    for index = 1, math.huge do
      local name, value = debug.getupvalue(check, index)
      if not name then return nil end
      local fields = type(value) == "table" and value.fields or name == "permit" and fields_of(value)
      if fields then return fields end
    end
  end

  for check, heading in pairs {
    subscribe = "bus.subscribe", publish = "bus.publish", request = "bus.request",
    request_many = "bus.request_many", on = "bus.on", script = "bus.script",
    offload = "bus.offload", shared = "bus.shared", consume = "js.consume", js_publish = "js.publish",
    js_count = "js.count", js_counter = "js.counter",
    lock = "bus.lock and bus.semaphore", limiter = "bus.limiter", cache = "bus.cache",
  } do
    it("has each option of " .. heading, function()
      local text = read "docs/REFERENCE.md"
      local first = assert(text:find("\n### " .. heading .. "\n", 1, true))
      local section = text:sub(first, (text:find("\n##", first + 4, true)))
      local fields = assert(fields_of(options[check]), check)
      for name in pairs(fields) do
        assert.is_truthy(section:find(("| `%s` |"):format(name), 1, true), name)
      end
    end)
  end
end)

-- Each message of the troubleshooting page is one that the host has. What differs from case to case is
-- "..." there, N and M are numbers; so the pieces between those are looked for.
describe("The troubleshooting page", function()
  -- The texts of the sources: what C and Lua split over lines is one again.
  local function sources()
    local pipe = io.popen "cat $(find host lua -name '*.[ch]' -o -name '*.lua')"
    local text = pipe:read "*a"
    pipe:close()
    return (text:gsub('"%s*\n%s*"', ""):gsub('"%s*\n%s*%.%. "', ""):gsub('\\"', '"'))
  end

  -- One of its pieces is in the sources, or none is long enough to tell.
  local function is_known(message, text)
    local any = false
    local pieces = message:gsub("%.%.%.", "\n"):gsub("%f[%w][NM]%f[%W]", "\n")
    for piece in pieces:gmatch "[^\n:;,\"()%d]+" do
      piece = piece:match "^%s*(.-)%s*$"
      any = any or #piece >= 12
      if #piece >= 12 and text:find(piece, 1, true) then return true end
    end
    return not any
  end

  it("has messages that the host has", function()
    local text, missing = sources(), {}
    local page = read("docs/TROUBLESHOOTING.md"):match "\n## At start.-\n## Known"
    for cell in page:gmatch "\n| (`[^|]+) |" do
      for message in cell:gmatch "`+([^`]+)`" do
        if not is_known(message, text) then missing[#missing + 1] = message end
      end
    end
    assert.same({}, missing)
  end)
end)

-- OPERATING has each setting of lua/moonbus/config.lua, its default, and when a change of it counts.
describe("OPERATING", function()
  local TAKES = { now = "at once", scripts = "with a new generation of every script", start = "at the next start" }

  -- The row of a table that names the setting, or all of its section ("log.*").
  local function row_of(text, key)
    for row in text:gmatch "\n(|[^\n]*)" do
      local first = row:match "^| ([^|]*) |" or ""
      for name in first:gmatch "`([%w_.*]+)`" do
        local beside = key:gsub("%.max$", ".min") -- "`publish.backoff.min`, `.max`"
        if name == key or name == beside or name == key:gsub("%..*", ".*") then return row end
      end
    end
  end

  local page = read "docs/OPERATING.md"
  local settings = page:match "\n## The config file\n(.-)\n## "
  local changes = page:match "\n### The config file changes\n(.-)\n## "
  local source = read "lua/moonbus/config.lua" .. read "lua/moonbus/config_telemetry.lua"
  for key, rest in source:gmatch '\n  { "([%l_]+[%l_.]*)", (%l[^\n]*)},' do
    it("has the setting " .. key, function()
      local row = assert(row_of(settings, key), "not in the table of settings")
      local default = rest:match 'default = "([^"]*)"' or rest:match "default = (%w+)"
      if default then assert.is_truthy(row:find(default, 1, true), row) end
      row = row_of(changes, key)
      assert.is_truthy(assert(row, "not in the table of changes"):find(TAKES[rest:match 'takes = "(%w+)"'] or
        TAKES.start, 1, true), row)
    end)
  end
end)

-- Each kind of registration that has handlers, or is fed as they are: `kind` of moonbus_handler_info.
describe("METRICS", function()
  it("has each kind of handler", function()
    local row = read "docs/METRICS.md":match "\n| `moonbus_handler_info`[^\n]*"
    local pipe, missing, count = io.popen "cat host/engine/kinds/*.c", {}, 0
    for kind in pipe:read "*a":gmatch "\nconst struct kind kind_[%l_]+ = (%b{})" do
      local name = kind:match '%.name = "([%l_]+)"'
      if not kind:find "%.declared = true" and not kind:find "SOURCE_BRINGS_NOTHING" then
        count = count + 1
        if not row:find("`" .. name .. "`", 1, true) then missing[#missing + 1] = name end
      end
    end
    pipe:close()
    assert.is_true(count > 8)
    assert.same({}, missing)
  end)
end)

describe("What is judged", function()
  local judged = require "spec.support.judged"

  it("has the words of each row, in its order", function()
    local section = read("docs/OPERATING.md"):match "\n## What is judged\n.-\n### "
    local documented, known = {}, {}
    for line in section:gmatch "\n(| `[^\n]+)" do documented[#documented + 1] = line end
    for index, name in ipairs(judged.names()) do
      known[index] = ("| `%s` | %s | %s |"):format(name, judged.row(index))
    end
    assert.same(known, documented)
  end)
end)
