-- Every binding, with every wrong value at every place. The bindings are taken from the running
-- host and its annotations (lua/library), so a new one is called here without being named.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- "Message" -> { "ack", "json", ... }, of what has methods.
local function methods()
  local found = {}
  local files = io.popen "find lua/library -name '*.lua' ! -name test.lua | sort"
  for path in files:lines() do
    for class, name in temp.read(path):gmatch "\nfunction (%w+):([%w_]+)%(" do
      found[class] = found[class] or {}
      table.insert(found[class], name)
    end
  end
  files:close()
  return found
end

-- What the script of a misuse begins with: the wrong values, and `misuse`, which calls a binding
-- with each of them at each place, and notes what is not as it should be.
local COMMON = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"

local calls, raised, complaints = 0, 0, {}

local function complain(what, problem)
  if #complaints < 20 then complaints[#complaints + 1] = what .. ": " .. tostring(problem):sub(1, 300) end
end

local function raising() error("a metamethod was called") end
local hostile = setmetatable({}, { __index = raising, __newindex = raising, __tostring = raising,
  __call = raising, __len = raising, __concat = raising, __eq = raising, __lt = raising })
local cycle = {} cycle.cycle = cycle
local deep = {} for _ = 1, 1000 do deep = { deep } end
local long = ("x"):rep(100000)

local VALUES = {
  { "nil", nil }, { "false", false }, { "true", true }, { "0", 0 }, { "-1", -1 }, { "0.5", 0.5 },
  { "1e308", 1e308 }, { "-1e308", -1e308 }, { "2^53", 2 ^ 53 }, { "2^63", 2 ^ 63 }, { "NaN", 0 / 0 },
  { "infinity", 1 / 0 }, { "-infinity", -1 / 0 }, { "an empty string", "" }, { "a NUL", "a\0b" },
  { "a space", "a b" }, { "a line break", "a\r\nb" }, { "no UTF-8", "\255\254" }, { "a wildcard", "a.*" },
  { "empty tokens", "a..b" }, { "a long string", long }, { "99999h", "99999999h" },
  { "an empty table", {} }, { "a list", { 1, 2, 3 } }, { "a list with holes", { 1, nil, 3 } },
  { "a mixed table", { 1, x = 2 } }, { "odd keys", { [true] = 1, [print] = 2, [0.5] = 3 } },
  { "a hostile table", hostile }, { "a cycle", cycle }, { "a deep table", deep }, { "a function", print },
  { "a coroutine", coroutine.create(print) }, { "a null", bus.json.null },
  { "the module", bus }, { "a list of functions", { raising } },
}

local function call(binding, count, args)
  local first, second = binding(unpack(args, 1, count))
  return first, second
end

-- An error is a sentence that begins with the script's line, or one of moonbus' error objects.
local function judge(what, ok, err)
  calls = calls + 1
  if ok then return end
  raised = raised + 1
  if type(err) == "table" and rawget(err, "code") then return end
  if type(err) ~= "string" then return complain(what, "raised a " .. type(err)) end
  if err:find("a metamethod was called", 1, true) then return end
  if not err:find "^handler%.lua:%d+: " then return complain(what, err) end
  if err:find "moonbus%.[%w_]+:%d+" or err:find "moonbus:%d+" or err:find("'?'", 1, true) then
    complain(what, err)
  end
end

-- The good arguments, but for one; as many as there are, or none after it.
local function misuse_argument(name, binding, attempt, good, value, place)
  for count = place, #good, math.max(1, #good - place) do
    local args = {}
    for other = 1, count do args[other] = good[other] end
    args[place] = value[2]
    attempt(("%s, %s at %d of %d"):format(name, value[1], place, count), binding, count, args)
  end
end

-- attempt(what, binding, count, args): calls it, and judges. options: a list of { place, name }.
local function misuse(name, binding, attempt, good, options)
  for _, value in ipairs(VALUES) do
    for place = 1, #good do misuse_argument(name, binding, attempt, good, value, place) end
    for _, option in ipairs(options) do
      local args = { unpack(good) }
      args[ option[1] ] = { [ option[2] ] = value[2] }
      attempt(("%s, %s = %s at %d"):format(name, option[2], value[1], option[1]), binding, #args, args)
    end
  end
  attempt(name .. ", nothing", binding, 0, {})
  local many = {}
  for index = 1, 250 do many[index] = index end
  attempt(name .. ", 250 arguments", binding, 250, many)
end

-- The names of the options that a binding has, as its errors tell them, and where they stand.
local function options_of(binding, good)
  local list = {}
  for place = 1, #good do
    local args = { unpack(good) }
    args[place] = { ["no such option"] = 1 }
    local _, err = pcall(binding, unpack(args, 1, #good))
    local names = type(err) == "string" and (err:match "there are (.*)$" or err:match 'there is "(.*)"$')
    for name in (names or ""):gmatch "[%w_]+" do list[#list + 1] = { place, name } end
  end
  return list
end

local function is_callable(value) return type(value) == "function" end

-- All functions below a table, by name, in the same order each time.
local function bindings(table_, prefix, list, seen)
  list, seen = list or {}, seen or {}
  if seen[table_] then return list end
  seen[table_] = true
  local names = {}
  for name in pairs(table_) do if type(name) == "string" then names[#names + 1] = name end end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = table_[name]
    if is_callable(value) then
      list[#list + 1] = { prefix .. name, value }
    elseif type(value) == "table" and getmetatable(value) == nil and name ~= "settings" then
      bindings(value, prefix .. name .. ".", list, seen)
    end
  end
  return list
end

local ALL = bindings(js, "js.", bindings(bus, "bus."))
ALL = bindings(require "moonbus.objects", "objects.", bindings(require "moonbus.kv", "kv.", ALL))
]]

describe("the misuse of every binding", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local GOOD = [[
local bus = require "moonbus"
bus.subscribe("good", function(msg) return msg.data end)]]

  local function run(script)
    return w:run {
      handlers = { ["good.lua"] = GOOD, ["handler.lua"] = COMMON .. script },
      config = 'return { workers = 2, limits = { cpu = "30s", memory = "256MB" } }',
      level = "info",
    }
  end

  local function still_good(host)
    assert.is_true(host:running())
    local reply, why = w.client:request("good", "x", { timeout = 5 * wait.slow })
    assert.equal("x", reply and reply.data, why)
    reply, why = w.client:request("after", "x", { timeout = 5 * wait.slow })
    assert.equal("after", reply and reply.data, why)
    assert.equal(0, host:stop(20))
  end

  local function judged(result, least)
    assert.same({}, result.complaints)
    assert.is_true(result.calls >= least, ("%d calls"):format(result.calls))
    assert.is_true(result.raised >= result.calls / 3, ("%d of %d raised"):format(result.raised, result.calls))
  end

  local REPORT = [[
bus.subscribe("after", function() return "after" end)
local function report()
  return { calls = calls, raised = raised, complaints = bus.json.array(complaints) }
end
]]

  -- A top level has 5 s: so each of some scripts calls a share of the bindings.
  local SHARES = 24

  local function loaded_with(share)
    return run(([[
-- What is registered by it shall be harmless, and the same in each instance.
local function attempt(what, binding, count, args)
  judge(what, pcall(call, binding, count, args))
end
table.sort(ALL, function(a, b) return a[1] < b[1] end)
for index = %d, #ALL, %d do
  local name, fn = ALL[index][1], ALL[index][2]
  if name ~= "bus.script" and name ~= "bus.use" then -- a good one would be around all that is here
    for _, good in ipairs { { "misuse.load", {}, function() end } } do
      misuse(name, fn, attempt, good, options_of(fn, good))
    end
  end
end
]]):format(share, SHARES) .. REPORT .. [[
bus.subscribe("report", report)]])
  end

  -- A machine that is busy with others may take 5 s for it: then it is started again.
  local TRIES = 4
  local function loaded_in_time(share)
    local ok, host
    for _ = 1, TRIES do
      ok, host = pcall(loaded_with, share)
      if ok then return host end
      if not tostring(host):find("still loading after", 1, true) then break end
    end
    error(host, 0)
  end

  it("while a script loads raises with file and line", function()
    local all = { complaints = {}, calls = 0, raised = 0 }
    for share = 1, SHARES do
      local host = loaded_in_time(share)
      local result = assert(w.client:request("report", "", { timeout = 10 * wait.slow })):json()
      assert.same({}, result.complaints)
      all.calls, all.raised = all.calls + result.calls, all.raised + result.raised
      still_good(host)
    end
    judged(all, 4000)
  end)

  -- In a handler a call may wait: it is made by a child, which is cancelled soon.
  local ATTEMPT = [[
local function attempt(what, binding, count, args)
  local ended, ok, err
  local child = bus.spawn(function()
    ok, err = pcall(call, binding, count, args)
    ended = true
  end)
  local late = bus.after("5ms", function() child:cancel() end)
  child:wait()
  late:cancel()
  if ended then judge(what, ok, err) else complain(what, "has not ended") end
end
]]

  it("in a handler raises with file and line, or gives nil, err", function()
    local host = run(ATTEMPT .. REPORT .. [[
bus.subscribe("misuse", { timeout = "5m", concurrency = 64 }, function(msg)
  local index = tonumber(msg.data)
  local name, fn = ALL[index][1], ALL[index][2]
  calls, raised, complaints = 0, 0, {}
  local good = { "misuse.nobody", "data", {} }
  misuse(name, fn, attempt, good, options_of(fn, good))
  return report()
end)
bus.subscribe("count", function() return tostring(#ALL) end)]])
    local count = tonumber(w.client:request("count", "").data)
    assert.is_true(count >= 20)
    local all, raised = 0, 0
    for index = 1, count do
      local reply, why = w.client:request("misuse", tostring(index), { timeout = 60 * wait.slow })
      assert(reply, why)
      assert.is_nil(reply:header "Nats-Service-Error", reply:header "Nats-Service-Error")
      local result = reply:json()
      assert.same({}, result.complaints)
      all, raised = all + result.calls, raised + result.raised
      assert.equal("x", w.client:request("good", "x", { timeout = 5 * wait.slow }).data)
    end
    judged({ complaints = {}, calls = all, raised = raised }, 4000)
    still_good(host)
  end)

  it("of every method, with every wrong self, as well", function()
    local found = methods()
    assert.is_truthy(found.Message and found.Future and found.Timer, "methods in lua/library")
    local list, seen = {}, {} -- by name: what has it is found out there
    for _, names in pairs(found) do
      for _, name in ipairs(names) do
        if not seen[name] then list[#list + 1] = ("%q"):format(name) end
        seen[name] = true
      end
    end
    table.sort(list)
    w.client:stream("IN", { "in" }, { storage = "memory" })
    local host = run(ATTEMPT .. REPORT .. ([[
local METHODS = { %s }
local bucket = require "moonbus.kv".bucket { name = "misuse" }
local files = require "moonbus.objects".bucket { name = "misuse" }
bus.subscribe("echo", function(msg) return "reply" end)
local service = bus.service { name = "misuse", version = "1.0.0" }
-- with: only these wrong selfs, or all.
local function methods_of(msg, with)
  local objects = {
    { "message", msg }, { "reply", (bus.request("echo", "")) }, { "future", bus.spawn(function() end) },
    { "timer", bus.after("1h", print) }, { "store", bus.shared and bus.shared("misuse") },
    { "lock", (bus.lock("misuse " .. msg.subject)) }, { "permit", (bus.semaphore("misuse " .. msg.subject, 2)) },
    { "cache", bus.cache("misuse", { load = function(key) return key end }) },
    { "replies", bus.request_many("misuse.nobody") }, { "messages", js.messages "IN" }, { "service", service },
    { "limiter", bus.limiter("misuse", { rate = 1e6 }) },
    { "files", files }, { "object", (files:put("a", "data") and files:open("a")) },
    { "bucket", bucket }, { "entry", (bucket:put("a", "{}") and bucket:get("a")) },
  }
  for _, method in ipairs(METHODS) do
    for _, holder in ipairs(objects) do
      local held, fn = pcall(function() local object = holder[2] return object[method] end)
      if held and type(fn) == "function" then
        for _, object in ipairs(objects) do
          local name = ("%%s:%%s on a %%s"):format(holder[1], method, object[1])
          local good = { object[2], "data", {} }
          if object == holder then
            misuse(name, fn, attempt, good, options_of(fn, good))
          elseif not with or with == object[1] or with == holder[1] then
            for _, value in ipairs(VALUES) do misuse_argument(name, fn, attempt, good, value, 2) end
          end
        end
      end
    end
  end
end
bus.subscribe("misuse", { timeout = "10m" }, function(msg)
  methods_of(msg)
  bus.publish("misused", report())
end)
js.consume("IN", { durable = "d", timeout = "10m", attempts = 1 }, function(msg)
  methods_of(msg, "message") -- of the others the first handler has shown it
  bus.publish("misused", report())
end)]]):format(table.concat(list, ", ")))
    local misused = w.client:subscribe "misused"
    w.client:publish("misuse", "x", nil, "inbox")
    judged(assert(misused:next(60)):json(), 2000)
    w.client:store("in", "x")
    judged(assert(misused:next(60)):json(), 4000)
    still_good(host)
  end)
end)
