-- Lua as people know it: pure-Lua modules load and work though handlers have no io, and what is looked at
-- in the log reads well.
local world = require "spec.support.world"

local sanitized = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"
local LIB = "/usr/share/lua/5.1/" -- where Debian's lua-* packages are

describe("Lua as people know it:", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- What a handler with this body replies, or its error.
  local function ask(body, options)
    options = options or {}
    local host = w:run { config = options.config, files = options.files, level = "info", handlers = {
      ["handler.lua"] = ([[
local bus = require "moonbus"
%s
bus.subscribe("spec", function(msg) local got = (function()
%s
end)() return got or "done" end)]]):format(options.top or "", body),
    } }
    local reply = assert(w.client:request("spec", options.data or "", { timeout = 20 }))
    return reply:header "Nats-Service-Error" or reply.data, host
  end

  describe("a module of Debian loads, and works:", function()
    for package, case in pairs {
      ["lua-penlight"] = { [[
local List, tablex, stringx = require "pl.List", require "pl.tablex", require "pl.stringx"
local pretty, class = require "pl.pretty", require "pl.class"
class.Animal()
function Animal:_init(name) self.name = name end
return Animal("cat").name .. List { 3, 1, 2 }:sort():join "," .. #tablex.keys { a = 1 } .. stringx.strip "  x "
  .. pretty.write({ 1 }, "")]], "cat1,2,31x{1}" },
      ["lua-inspect"] = { [[return (require "inspect" { 1, { a = "x" } }:gsub("%s+", " "))]], '{ 1, { a = "x" } }' },
      ["lua-messagepack"] = { [[
local mp = require "MessagePack"
local back = mp.unpack(mp.pack { id = 7, list = { 1, 2.5, "x", true } })
return back.id .. back.list[2] .. back.list[3] .. tostring(back.list[4])]], "72.5xtrue" },
      ["lua-argparse"] = { [[
local parser = require "argparse" "script"
parser:argument "input"
parser:flag "-v --verbose"
local ok, args = parser:pparse { "-v", "file.txt" }
return tostring(ok) .. args.input .. tostring(args.verbose)]], "truefile.txttrue" },
      ["lua-luassert and lua-say"] = { [[
local assert = require "luassert"
assert.same({ 1, { 2 } }, { 1, { 2 } })
local ok, err = pcall(assert.equal, 1, 2)
return tostring(ok) .. tostring(err):match "Expected objects to be equal"]], "falseExpected objects to be equal" },
      ["lua-dkjson"] = { [[
local json = require "dkjson"
return json.encode({ 1, "x", json.null }) .. json.decode('{"a":[1,2]}').a[2] ]], '[1,"x",null]2' },
      ["lua-basexx"] = { [[
local basexx = require "basexx"
return basexx.to_base64 "moonbus" .. basexx.from_base32(basexx.to_base32 "x")]], "bW9vbmJ1cw==x" },
      ["lua-ansicolors"] = { [[return (require "ansicolors" "%{red}x":gsub("\27", "E"))]], "E[0mE[31mxE[0m" },
      ["lua-binaryheap"] = { [[
local heap = require "binaryheap".minHeap()
for _, n in ipairs { 3, 1, 2 } do heap:insert(n) end
return heap:pop() .. heap:pop() .. heap:pop()]], "123" },
      ["lua-fifo"] = { [[
local fifo = require "fifo" ("a", "b")
fifo:push "c"
return fifo:pop() .. fifo:length()]], "a2" },
      ["lua-mediator"] = { [[
local mediator, got = require "mediator"(), nil
mediator:subscribe({ "a" }, function(x) got = x end)
mediator:publish({ "a" }, "x")
return got]], "x" },
      ["lua-cliargs"] = { [[
local cli = require "cliargs"
cli:flag("-v", "be verbose")
return tostring(cli:parse({ "-v" }).v)]], "true" },
    } do
      it(package, function()
        local got = ask(case[1], { config = ("return { lib = { %q } }"):format(LIB) })
        assert.equal(case[2], got)
      end)
    end
  end)

  describe("what a handler may not call", function()
    for name in ("io.open io.popen io.write io.lines io.tmpfile os.execute os.exit os.remove os.rename os.tmpname " ..
      "os.setlocale debug.sethook debug.getupvalue debug.getlocal debug.upvaluejoin package.loadlib " ..
      "package.searchpath package.seeall string.dump dofile loadfile jit.flush"):gmatch "%S+" do
      it(name .. " is a function, that raises when it is called", function()
        local got = ask(([[
local ok, err = pcall(%s, "x")
return type(%s) .. " " .. tostring(ok) .. " " .. err]]):format(name, name))
        assert.matches("^function false handler%.lua:%d+: " .. name:gsub("%p", "%%%0"), got)
        assert.matches("trust = true in the config", got)
        local offloaded = name:find "^io" or name:find "file$" or name:find "^os" and not name:find "exit$"
          and not name:find "setlocale$"
        assert.equal(offloaded ~= nil and offloaded ~= false, got:find "a module of bus.offload" ~= nil, got)
      end)
    end

    it("of io.stdout and io.stderr is there, too", function()
      local got = ask [[
local ok, err = pcall(function() io.stderr:write("x") end)
return tostring(io.stdout ~= nil) .. " " .. type(io.stdout.write) .. " " .. tostring(ok) .. " " .. err]]
      assert.matches("^true function false handler%.lua:%d+: io%.stderr%.write: .*trust = true", got)
    end)

    it("but does not exist, is nil", function()
      assert.equal("nil nil nil nil",
        ask 'return table.concat({ tostring(io.x), tostring(os.x), tostring(debug.x), tostring(package.x) }, " ")')
    end)
  end)

  it("package has config, path and loaded, to be read", function()
    local got = ask([[
local util = require "util"
local lines = { package.config:sub(1, 1), package.path, tostring(package.loaded.util == util),
  tostring(package.loaded.string == string), tostring(package.loaded._G == _G), tostring(package.loaded.none),
  tostring(require "package" == package), tostring(require "io" == io) }
for _, write in ipairs { function() package.path = "x" end, function() package.loaded.util = nil end,
  function() package.preload.x = print end, function() package.new = 1 end } do
  lines[#lines + 1] = select(2, pcall(write))
end
return table.concat(lines, "\n")]], {
      config = 'return { lib = { "lib/" } }', files = { ["lib/util.lua"] = "return {}" },
    })
    local lines = {}
    for line in got:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.same({ "/", lines[2], "true", "true", "true", "nil", "true", "true" }, { unpack(lines, 1, 8) })
    assert.matches("^%S*handlers/%?%.lua;%S*handlers/%?/init%.lua;%S*lib/%?%.lua;%S*lib/%?/init%.lua$", lines[2])
    assert.matches("package%.path cannot be set: `lib` in the config says where modules are", lines[9])
    assert.matches("package%.loaded%.util cannot be set", lines[10])
    assert.matches("package%.preload%.x cannot be set", lines[11])
    assert.matches("package%.new cannot be set", lines[12])
  end)

  it("debug.getinfo tells where a caller is, and hands out no functions", function()
    assert.equal("handler.lua 8 nil nil", (ask [[
local function where()
  local info = debug.getinfo(2, "Sl")
  return info
end
local info = where()
local own = debug.getinfo(1, "f")
return ("%s %d %s %s"):format(info.short_src, info.currentline, tostring(info.func), tostring(own.func))]]))
  end)

  it("jit tells its version, and takes a function of one's own out of the compiler", function()
    local got = ask [[
local function mine() return 1 end
jit.off(mine)
jit.on(mine)
return jit.version .. " " .. jit.os .. " " .. tostring(select(2, pcall(jit.off)))]]
    assert.matches("^LuaJIT 2%.%d.* Linux handler%.lua:%d+: jit%.off: of one function only; bus%.script", got)
  end)

  for what, config in pairs { ["with trust"] = "return { trust = true }", ["in an offloaded module"] = "return {}" } do
    it(what .. ", require finds what LuaJIT has inside, and package.preload", function()
      local CODE = [[
local new, clear = require "table.new", require "table.clear"
local t = new(4, 0)
t[1] = 1
clear(t)
package.preload["made.up"] = function(name) return { name = name } end
return #t .. type(require "jit.util".funcinfo) .. require "made.up".name]]
      local offloaded = config == "return {}"
      local got = ask(offloaded and "return assert(bus.offload('work').run())" or CODE,
        { config = config, files = { ["lib/work.lua"] = "return { run = function()\n" .. CODE .. "\nend }" } })
      assert.equal("0functionmade.up", got)
    end)
  end

  describe("the log", function()
    it("has a tab between what print is given", function()
      local _, host = ask [[ print("a", 1, nil, true) ]]
      host:wait_log { level = "info", msg = "^a\t1\tnil\ttrue$" }
    end)

    it("has that tab in text as well", function()
      local host = w:run { args = { "--log-format", "text" }, level = "info",
        handlers = { ["handler.lua"] = 'print("a", "b")' } }
      assert.is_truthy(host:output():find("a\tb", 1, true), host:output())
    end)

    it("shows tables, in the order of their names", function()
      local _, host = ask [[
local order = { id = 7, items = { { sku = "x", count = 2 }, { sku = "y" } }, ["a key"] = true, [0] = "zero" }
print(order)
bus.log.warn(order)
bus.log.info(setmetatable({}, { __tostring = function() return "by itself" end }))
local cycle = {}
cycle.cycle = cycle
bus.log.info(cycle)]]
      local SHOWN = '{[0] = "zero", ["a key"] = true, id = 7, items = {{count = 2, sku = "x"}, {sku = "y"}}}'
      host:wait_log { level = "info", msg = "^" .. SHOWN:gsub("%p", "%%%0") .. "$" }
      host:wait_log { level = "warn", msg = "^" .. SHOWN:gsub("%p", "%%%0") .. "$" }
      host:wait_log { level = "info", msg = "^by itself$" }
      host:wait_log { level = "info", msg = "^{cycle = {cycle = {.*a table.*$" }
    end)

    it("has the fields of a line in the order of their names, in each state the same", function()
      local _, host = ask [[
local fields = {}
for name in ("zebra apple mango kiwi berry fig"):gmatch "%a+" do fields[name] = #name end
bus.log.info("fruit", fields)]]
      host:wait_log { msg = "^fruit$" }
      assert.is_truthy(host:output():find('{"apple":5,"berry":5,"fig":3,"kiwi":4,"mango":5,"zebra":5}', 1, true),
        host:output())
    end)

    it("cuts what is too much of a table", function()
      local _, host = ask [[
local long = {}
for i = 1, 1e5 do long["name " .. i] = ("x"):rep(100) end
print(long)]]
      local event = host:wait_log { msg = "^{" }
      assert.is_true(#event.msg < 4100)
      assert.matches(", %.%.%.}$", event.msg)
    end)
  end)

  describe("a name that no module has", function()
    for wrong, meant in pairs {
      ["bus.subscibe"] = "did you mean bus.subscribe%?",
      ["bus.consume"] = 'it is js.consume %(js = require "moonbus.jetstream"%)',
      ["bus.bukket"] = 'did you mean kv.bucket %(kv = require "moonbus.kv"%)%?',
      ["bus.timer"] = "it is bus.every",
      ["bus.log.warning"] = "it is bus.log.warn",
      ["bus.json.parse"] = "it is bus.json.decode",
      ["bus.http.gett"] = "did you mean bus.http.get%?",
      ["js.sleep"] = 'it is bus.sleep %(bus = require "moonbus"%)',
    } do
      it(("%s raises, and tells which was meant"):format(wrong), function()
        local top = 'local js = require "moonbus.jetstream"'
        local got = ask(("return select(2, pcall(function() return %s end))"):format(wrong), { top = top })
        assert.matches(("^handler.lua:%%d+: %s: there is no such function: %s$"):format(wrong:gsub("%.", "%%."), meant),
          got)
      end)
    end

    it("and that is like none of theirs, raises with the list", function()
      assert.matches("bus%.quantity: there is no such function: there are after, .*cron, every,",
        (ask "bus[1] = 1 return select(2, pcall(function() return bus.quantity end))"))
    end)

    it("is nil for who looks with rawget", function()
      assert.equal("nil", (ask 'return tostring(rawget(bus, "quantity"))'))
    end)
  end)

  describe("a name that no object has", function()
    local TOP = [[
local kv, objects = require "moonbus.kv", require "moonbus.objects"
local of = {
  bucket = kv.bucket { name = "b" }, files = objects.bucket { name = "f" }, store = bus.shared "s",
  cache = bus.cache("c", { load = print }), limiter = bus.limiter("l", { rate = 1 }),
  client = bus.http.client {}, schema = bus.schema "string", make = bus.schema,
  service = bus.service { name = "x", version = "1.0.0" }, every = bus.every("1h", function() end),
}]]

    it("raises, and tells which was meant, or all that there are", function()
      local got = ask([[
of.lock = bus.lock "l"
of.bucket:put("k", "v")
of.entry = of.bucket:get "k"
of.files:put("k", "v")
of.reader = of.files:open "k"
of.future, of.timer = bus.spawn(function() end), bus.after("1h", function() end)
of.stored = require("moonbus.jetstream").publish_async("x.y", "")
local all = {}
for each in ("bucket.gett bucket.set bucket.quantity files.set files.quantity store.put store.quantity cache.fetch " ..
  "cache.quantity limiter.acquire limiter.quantity client.fetch client.quantity schema.validate make.text " ..
  "make.quantity service.add_endpoint service.endpont entry.data entry.quantity reader.quantity lock.unlock " ..
  "lock.quantity future.await future.quantity stored.cancl timer.stop timer.quantity every.cancl"):gmatch "%S+" do
  local object, name = each:match "(.+)%.(.+)"
  local ok, why = pcall(function() return of[object][name] end)
  all[#all + 1] = tostring(ok) .. " " .. tostring(why)
end
return table.concat(all, "\n")]], { top = TOP })
      local METHODS, FIELDS = "there is no such method: ", "there is no such field: "
      local lines = {
        "bucket.gett: " .. METHODS .. 'did you mean "get"?', "bucket.set: " .. METHODS .. 'did you mean "put"?',
        "bucket.quantity: " .. METHODS ..
          "there are create, delete, get, history, keys, purge, put, update, watch",
        "object bucket.set: " .. METHODS .. 'did you mean "put"?',
        "object bucket.quantity: " .. METHODS .. "there are delete, get, info, list, open, put, watch",
        "shared.put: " .. METHODS .. 'did you mean "set"?',
        "shared.quantity: " .. METHODS ..
          "there are add, delete, expire, flush, get, incr, keys, replace, set, stats, ttl",
        "cache.fetch: " .. METHODS .. 'did you mean "get"?',
        "cache.quantity: " .. METHODS .. "there are delete, flush, get, set",
        "limiter.acquire: " .. METHODS .. 'did you mean "take"?',
        "limiter.quantity: " .. METHODS .. "there are take, try",
        "client.fetch: " .. METHODS .. 'did you mean "get"?',
        "client.quantity: " .. METHODS .. "there are delete, get, head, patch, post, put, request",
        "schema.validate: " .. METHODS .. 'did you mean "check"?',
        'bus.schema.text: there is no such function: did you mean "string"?',
        "bus.schema.quantity: there is no such function: " ..
          "there are any_of, array, default, enum, integer, map, number, object, optional, string",
        "service.add_endpoint: " .. METHODS .. 'did you mean "endpoint"?',
        "service.endpont: " .. METHODS .. 'did you mean "endpoint"?',
        "entry.data: " .. FIELDS .. 'did you mean "value"?',
        "entry.quantity: " .. FIELDS ..
          "there are bucket, created, delta, json, key, operation, revision, stale, value",
        "object.quantity: " .. FIELDS .. "there are close, info",
        "lock.unlock: " .. FIELDS .. 'did you mean "release"?',
        "lock.quantity: " .. FIELDS .. "there are held, release, token",
        "future.await: " .. FIELDS .. 'did you mean "wait"?',
        "future.quantity: " .. FIELDS .. "there are cancel, done, wait",
        "future.cancl: " .. FIELDS .. 'did you mean "cancel"?',
        "timer.stop: " .. METHODS .. 'did you mean "cancel"?',
        "timer.quantity: " .. METHODS .. "there are cancel",
        "timer.cancl: " .. METHODS .. 'did you mean "cancel"?',
      }
      assert.equal("false handler.lua:0: " .. table.concat(lines, "\nfalse handler.lua:0: "),
        (got:gsub("handler.lua:%d+", "handler.lua:0")))
    end)

    it("is nil where it has none as yet", function()
      assert.equal("nil nil nil nil", (ask([[
of.bucket:put("k", "v")
local entry = of.bucket:get "k"
return ("%s %s %s %s"):format(bus.lock("l").token, of.bucket.__name, entry.stale, entry.delta)]], { top = TOP })))
    end)
  end)

  describe("a name that no message has", function()
    for wrong, meant in pairs { date = "data", sbject = "subject", body = "data", seq = "sequence", respnd = "respond",
      nack = "nak" } do
      it(("msg.%s raises, and tells of msg.%s"):format(wrong, meant), function()
        local got = ask(("return tostring(msg.%s)"):format(wrong))
        assert.matches(('^msg%%.%s: a message has no such field: did you mean "%s"%%?'):format(wrong, meant), got)
      end)
    end

    it("and that is like none of theirs, raises with the list", function()
      assert.matches("^msg%.quantity: a message has no such field: there are ack, attempt, consumer, data,",
        (ask "return msg.quantity"))
    end)

    it("and that is no name, raises", function()
      assert.matches("^msg%[1%]: a message has no such field", (ask "return msg[1]"))
    end)

    it("raises for a reply, too", function()
      assert.matches('^msg%.payload: .*did you mean "data"',
        (ask('return bus.request("echo", "x").payload', { top = 'bus.subscribe("echo", function() return "y" end)' })))
    end)

    it("is not one that a message of another kind has", function()
      assert.equal("nil nil", ask "return tostring(msg.stream) .. ' ' .. tostring(msg.sequence)")
    end)
  end)

  describe("undeclared globals", function()
    it("are told by name a hundred times, then by numbers, and long names are cut", function()
      local got, host = ask [[
for i = 1, 2000 do _G["global" .. i] = i end
_G[("long"):rep(1e6)] = 1
return "done"]]
      assert.equal("done", got)
      host:wait_log { level = "warn", msg = "others not each is logged", line = 4 }
      local lines = host:logged { level = "warn", msg = "undeclared global" }
      assert.is_true(#lines >= 103 and #lines <= 110, #lines .. " lines")
      for _, event in ipairs(lines) do assert.is_true(#event.msg < 300) end
    end)

    it("cost the host no memory", function()
      local _, host = ask [[ return "ready" ]]
      local before = host:memory_mb()
      host:close()
      _, host = ask [[
for i = 1, 50000 do
  local name = ("x"):rep(900) .. i
  _G[name] = 1
  rawset(_G, name, nil)
end
collectgarbage()
return "done"]]
      -- They were kept, and would be 45 MB. What was freed stays with the process for a while when sanitized.
      assert.is_truthy(sanitized or host:memory_mb() < before + 30, host:memory_mb() .. " MB, before " .. before)
    end)

    it("with a long name are told with its beginning", function()
      local _, host = ask [[ _G[("long"):rep(1e6)] = 1 ]]
      host:wait_log { level = "warn", msg = 'global "longlong[^"]*%.%.%.": did you mean local' }
    end)
  end)

  describe("what a script raises", function()
    it("keeps its code, whichever of ours it is", function()
      for _, code in ipairs { "taken", "offload_error", "timeout" } do
        local _, host = ask(('error { code = %q, message = "as I say" }'):format(code))
        host:wait_log { level = "error", code = code, msg = "as I say" }
        w:clear()
      end
    end)
  end)
end)
