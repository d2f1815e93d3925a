-- A script whose file is removed, or renamed: what is still seen of it.
local cjson = require "cjson"
local metrics = require "spec.support.metrics"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a script whose file is removed", function()
  local w = world.new()
  local host
  setup(function()
    w:open()
    host = w:run { admin = true, handlers = {
      ["stays.lua"] = [[require "moonbus".subscribe("stays", function() return "here" end)]],
    } }
  end)
  teardown(function()
    w:clear()
    w:close()
  end)

  local function port() return tonumber(host.admin:match "%d+$") end
  local function save(name, text) temp.write(host.folder, "handlers/" .. name, text) end
  local function path(name) return host.folder .. "/handlers/" .. name end
  local function reload() return (posix.http(port(), "POST", "/reload")) end
  local function get(what) return posix.http(port(), "GET", what) end

  -- The names of the scripts in the status, and all that /metrics has as the label `script`.
  local function names()
    local list, labels = {}, {}
    for _, script in ipairs(cjson.decode((select(2, get "/status"))).scripts) do list[#list + 1] = script.name end
    for _, family in pairs((metrics.of(host))) do
      for _, sample in ipairs(family.samples) do
        if sample.labels.script then labels[sample.labels.script] = true end
      end
    end
    return list, labels
  end

  local function only_stays()
    local list, labels
    wait.eventually(function()
      list, labels = names()
      return #list == 1 and next(labels, next(labels)) == nil
    end, 10, function() return table.concat(list, " ") end)
    assert.same({ "stays.lua" }, list)
    assert.same({ ["stays.lua"] = true }, labels)
  end

  it("leaves status and metrics when it was refused and never served; the host was ready all the time", function()
    save("broken.lua", "x ==")
    assert.equal(409, reload())
    assert.equal(200, (get "/readyz"))
    assert.equal(0, metrics.value(host, "moonbus_script_last_reload_successful", { script = "broken.lua" }))
    assert(os.remove(path "broken.lua"))
    assert.equal(200, reload())
    only_stays()
    host:wait_log "broken%.lua: the file is gone; it was not served"
    assert.equal(0, #host:logged "nothing has changed")
  end)

  it("leaves them, too, when the last of its handlers has ended, and goes on counting when it is back", function()
    save("added.lua", [[
local bus = require "moonbus"
bus.subscribe("added", function() return bus.request("finish", "", { timeout = "10s" }).data end)]])
    assert.equal(200, reload())
    local questions, answers = w.client:subscribe "finish", w.client:subscribe "answers"
    w.client:publish("added", "", nil, "answers")
    local question = questions:take(1)[1]
    assert(os.remove(path "added.lua"))
    assert.equal(200, reload())
    host:wait_log "added%.lua: the file is gone; it is no longer served"
    local list, labels = names()
    assert.same({ "stays.lua", "added.lua" }, list)
    assert.is_true(labels["added.lua"])
    w.client:reply(question, "yes")
    assert.equal("yes", answers:take(1)[1].data)
    only_stays()
    save("added.lua", [[require "moonbus".subscribe("added", function() return "back" end)]])
    assert.equal(200, reload())
    assert.equal("back", w.client:request("added", "").data)
    assert.equal(2, metrics.value(host, "moonbus_script_generation", { script = "added.lua" }))
    assert.equal(2, metrics.value(host, "moonbus_handler_received_total", { script = "added.lua" }))
    assert(os.remove(path "added.lua"))
    assert.equal(200, reload())
    only_stays()
  end)

  it("is told from its new name: a renamed file handles no subject twice", function()
    assert(os.rename(path "stays.lua", path "renamed.lua"))
    assert.equal(200, reload())
    host:wait_log "renamed%.lua: generation 1 live"
    host:wait_log "stays%.lua: the file is gone; it is no longer served"
    assert.equal("here", w.client:request("stays", "").data)
    assert.equal(0, #host:logged "handles this subject, too")
  end)
end)
