local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("coroutines inside a handler", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function reply_of(body)
    local host = w:run(([[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)
bus.subscribe("spec", function(msg)
%s
end)]]):format(body))
    return w.client:request("spec", ""), host
  end

  describe("bus.gather", function()
    it("runs all at once and gives the results in the order of the functions", function()
      local result = reply_of [[
        local order = {}
        local function after(wait, name)
          return function()
            order[#order + 1] = "begins " .. name
            bus.sleep(wait)
            order[#order + 1] = "ends " .. name
            return name
          end
        end
        local a, b, c = bus.gather { after("90ms", "a"), after("60ms", "b"), after("1ms", "c") }
        return { a, b, c, table.concat(order, " ", 1, 3), order[6] }
      ]]:json()
      assert.same({ "a", "b", "c", "begins a begins b begins c", "ends a" }, result)
    end)

    it("raises the first error, after it has cancelled the rest", function()
      local leaks = w.client:subscribe "leak"
      local result = reply_of [[
        local ok, err = pcall(bus.gather, {
          function() bus.sleep("1m") bus.publish("leak", "") end,
          function() bus.sleep("20ms") error "second" end,
          function() bus.sleep("1m") bus.publish("leak", "") end,
        })
        return { ok = ok, err = tostring(err) }
      ]]:json()
      assert.is_false(result.ok)
      assert.matches("second", result.err)
      assert.same({}, leaks:arrived())
    end)

    it("works with nothing to do", function()
      assert.equal("done", reply_of([[ bus.gather {} return "done" ]]).data)
    end)

    it("refuses more than it can return before it runs any", function()
      local result = reply_of [[
        local ran, list = 0, {}
        for i = 1, 7001 do list[i] = function() ran = ran + 1 end end
        local ok, err = pcall(bus.gather, list)
        list[7001] = nil
        return tostring(ok) .. " " .. ran .. " " .. select("#", bus.gather(list)) .. " " .. err
      ]]
      assert.matches("^false 0 7000 .*bus.gather: 7001 functions: at most 7000", result.data)
    end)

    it("works inside another", function()
      local result = reply_of [[
        local function twice(x)
          return function()
            local a, b = bus.gather {
              function() return bus.request("echo", x).data end,
              function() bus.sleep("5ms") return x end,
            }
            return a .. b
          end
        end
        local p, q = bus.gather { twice "p", twice "q" }
        return p .. q
      ]]
      assert.equal("ppqq", result.data)
    end)

    it("raises when it is misused", function()
      local result = reply_of [[
local errors = {}
for index, use in ipairs { function() bus.gather() end, function() bus.gather { 1 } end } do
  local ok, err = pcall(use)
  errors[index] = ok and "no error" or tostring(err)
end
return errors]]:json()
      for _, text in ipairs(result) do assert.matches("handler%.lua:%d+", text) end
    end)

    it("ends with its handler when that is cancelled", function()
      local leaks = w.client:subscribe "leak"
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("spec", { timeout = "100ms" }, function()
          bus.gather {
            function() pcall(bus.sleep, "1m") bus.publish("leak", "") end,
            function() bus.sleep("1m") end,
          }
        end)
      ]]
      w.client:publish("spec", "")
      host:wait_log { level = "error", code = "timeout", handler = "spec" }
      assert.same({}, leaks:arrived())
    end)
  end)

  describe("bus.spawn", function()
    it("gives a future, whose wait gives the results", function()
      local result = reply_of [[
        local future = bus.spawn(function(a, b) bus.sleep("10ms") return a + b, "sum" end, 2, 3)
        local sum, word = future:wait()
        return { sum, word }
      ]]:json()
      assert.same({ 5, "sum" }, result)
    end)

    it("may be waited for again, and after it has ended", function()
      local result = reply_of [[
        local future = bus.spawn(function() return 7 end)
        bus.sleep("10ms")
        return { future:wait(), (future:wait()) }
      ]]:json()
      assert.same({ 7, 7 }, result)
    end)

    it("hands its error to who waits", function()
      local result = reply_of [[
        local future = bus.spawn(function() bus.sleep("5ms") error "it broke" end)
        local ok, err = pcall(function() return assert(future:wait()) end)
        return { ok = ok, err = tostring(err) }
      ]]:json()
      assert.is_false(result.ok)
      assert.matches("it broke", result.err)
    end)

    it("logs an error that nobody waits for, by file and line", function()
      local _, host = reply_of [[
        bus.spawn(function() error "nobody heard me" end)
        bus.sleep("50ms")
        return "fine"
      ]]
      host:wait_log "nobody heard me"
    end)

    it("logs what it raised, whatever that was", function()
      for raised, text in pairs {
        ["{ reason = 'x' }"] = '^an error of type table: {reason = "x"}$',
        ["{ code = 'no_stock' }"] = "^no_stock$",
        ["nil"] = "^an error without a value %(nil%)$",
        ["setmetatable({}, { __tostring = error })"] = "^an error of type table, whose __tostring fails$",
      } do
        local _, host = reply_of(("bus.spawn(function() error(%s) end) bus.sleep('10ms') return 'fine'"):format(raised))
        local event = host:wait_log { level = "error" }
        assert.matches(text, event.msg)
        assert.same({ "handler.lua", 4 }, { event.file, event.line })
        w:clear()
      end
    end)

    -- Whoever is told to end gets an error, and may raise another one: out of its cleaning up, or for
    -- want of memory.
    it("that fails after it was cancelled is logged once for each run, with its place and how many", function()
      local host = w:run [[
local bus = require "moonbus"
bus.subscribe("many", function(msg)
  for i = 1, 500 do
    bus.spawn(function()
      pcall(bus.sleep, "1m")
      error(i % 2 == 0 and { reason = "cleaning" } or nil)
    end)
  end
  bus.sleep("10ms")
  return "done"
end)]]
      for run = 1, 2 do
        assert.equal("done", w.client:request("many", "").data)
        local event = host:wait_log({ level = "warn", msg = "a spawned function failed" }, 5, run)
        assert.equal("a spawned function failed after it was cancelled, the first of 500: " ..
          "an error without a value (nil)", event.msg)
        assert.same({ "handler.lua", 6, "many", "many" }, { event.file, event.line, event.handler, event.subject })
      end
      wait.holds(function() return #host:logged { level = "warn" } == 2 end, 0.1)
      assert.equal(0, host:stop())
    end)

    it("is told of as what failed, also when there is no memory left to say where", function()
      local host = w:run {
        handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("bomb", { timeout = "2s" }, function()
  local function hoard() bus.spawn(hoard) bus.spawn(hoard) bus.sleep(0) return hoard() end
  hoard()
end)
bus.subscribe("gather", { timeout = "5s" }, function()
  bus.gather { function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(100) .. i end end }
end)]] },
        config = 'return { limits = { memory = "16MB", cpu = "5s" } }',
      }
      for _, subject in ipairs { "bomb", "gather", "bomb" } do
        w.client:request(subject, "", { timeout = 10 * wait.slow })
      end
      host:wait_log({ level = "error" }, 10, 3)
      for _, event in ipairs(host:events()) do
        if event.level ~= "debug" and event.level ~= "info" then
          assert.is_nil(event.msg:find "nil", host:explain())
        end
      end
      assert.is_true(#host:logged "a spawned function failed" <= 2, host:explain())
    end)

    it("ends with its handler", function()
      local ticks = w.client:subscribe "tick"
      reply_of [[
        bus.spawn(function() while true do bus.publish("tick", "") bus.sleep("10ms") end end)
        bus.sleep("50ms")
        return ""
      ]]
      assert.is_true(#ticks:arrived() >= 2)
      assert.is_nil(ticks:next(0.1))
    end)

    it("ends by the thousands as fast as it began", function()
      w:run [[
        local bus = require "moonbus"
        bus.script { workers = 1 }
        bus.subscribe("many", function()
          for _ = 1, 20000 do bus.spawn(bus.sleep, "1m") end
          bus.sleep(0)
          return "done"
        end)
        bus.subscribe("after", function() return "free" end)
      ]]
      local began = wait.now()
      assert.equal("done", w.client:request("many", "").data)
      assert.equal("free", w.client:request("after", "").data)
      assert.is_true(wait.now() - began < wait.within(3))
    end)

    it("can be cancelled", function()
      local result = reply_of [[
        local future = bus.spawn(function() bus.sleep("1m") end)
        future:cancel()
        local ok, err = pcall(future.wait, future)
        return { ok = ok, code = err.code }
      ]]:json()
      assert.same({ ok = false, code = "cancelled" }, result)
    end)

    it("is cancelled while somebody waits for it, with its handler", function()
      local leaks = w.client:subscribe "leak"
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("spec", { timeout = "100ms" }, function()
          local future = bus.spawn(function() pcall(bus.sleep, "1m") bus.publish("leak", "child") end)
          pcall(future.wait, future)
          bus.publish("leak", "handler")
        end)
      ]]
      w.client:publish("spec", "")
      host:wait_log { level = "error", code = "timeout", handler = "spec" }
      assert.same({}, leaks:arrived())
    end)

    it("raises when it is misused", function()
      local result = reply_of [[
        local ok, err = pcall(function() bus.spawn("x") end)
        return { ok = ok, err = tostring(err) }
      ]]:json()
      assert.is_false(result.ok)
      assert.matches("handler%.lua:%d+", result.err)
    end)
  end)

  describe("coroutines of the script itself", function()
    it("let bindings inside coroutine.wrap wait", function()
      local reply = reply_of [[
        local next_reply = coroutine.wrap(function()
          for index = 1, 3 do
            coroutine.yield(bus.request("echo", "r" .. index).data)
          end
        end)
        return next_reply() .. next_reply() .. next_reply()
      ]]
      assert.equal("r1r2r3", reply.data)
    end)

    it("let bindings inside coroutine.resume wait", function()
      local reply = reply_of [[
        local co = coroutine.create(function(a)
          bus.sleep("10ms")
          local b = coroutine.yield(a .. "1")
          bus.sleep("10ms")
          return b .. "2"
        end)
        local _, first = coroutine.resume(co, "a")
        local _, second = coroutine.resume(co, "b")
        return first .. second .. coroutine.status(co)
      ]]
      assert.equal("a1b2dead", reply.data)
    end)

    it("let bindings wait across pcall, xpcall, metamethods and iterators", function()
      local reply = reply_of [[
        local out = {}
        pcall(function() bus.sleep("5ms") out[#out + 1] = "pcall" end)
        xpcall(function() bus.sleep("5ms") out[#out + 1] = "xpcall" end, debug.traceback)
        local proxy = setmetatable({}, { __index = function(_, key) bus.sleep("5ms") return key end })
        out[#out + 1] = proxy.index
        for word in function(_, last)
          if not last then bus.sleep("5ms") return "iterator" end
        end do out[#out + 1] = word end
        return table.concat(out, " ")
      ]]
      assert.equal("pcall xpcall index iterator", reply.data)
    end)

    it("say clearly where they cannot wait: table.sort, string.gsub", function()
      local reply, host = reply_of [[
        local ok, err = pcall(table.sort, { 2, 1 }, function(a, b) bus.sleep("1ms") return a < b end)
        local ok2, err2 = pcall(string.gsub, "x", "x", function() bus.sleep("1ms") end)
        return { ok = ok, ok2 = ok2, err = tostring(err), err2 = tostring(err2) }
      ]]
      local result = reply:json()
      assert.same({ false, false }, { result.ok, result.ok2 })
      assert.matches("bus%.sleep", result.err)
      assert.matches("table%.sort", result.err)
      assert.is_true(host:running())
    end)

    it("fail one handler, and no other, with a yield that nobody asked for", function()
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("stray", function() coroutine.yield("what?") end)
        bus.subscribe("fine", function() return "fine" end)
      ]]
      assert.equal("500", w.client:request("stray", ""):header "Nats-Service-Error-Code")
      local event = host:wait_log { level = "error", handler = "stray" }
      assert.equal("handler.lua", event.file)
      assert.equal("fine", w.client:request("fine", "").data)
    end)
  end)
end)
