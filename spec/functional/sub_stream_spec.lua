-- moonbus sub --stream: what lies in a stream, without a consumer.
local cjson = require "cjson"
local host_of = require "spec.support.host"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("moonbus sub --stream", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function orders(settings)
    w.client:stream("ORDERS", { "orders.>" }, settings)
    for index = 1, 3 do
      w.client:store(index == 2 and "orders.paid" or "orders.created", "order " .. index,
        index == 1 and { K = { "a", "b" } } or nil)
    end
  end

  local function sub(...) return w:cli { "sub", ... } end

  -- The data that was printed, by --raw.
  local function data(...)
    local run = sub("--raw", ...)
    assert.equal(0, run.status, run.stderr)
    return (run.stdout:gsub("\n", " "):gsub(" $", ""))
  end

  local function start(...)
    return w:start { command = "sub", args = { "-s", w.server.url, ... }, server = false,
      level = false, format = false }
  end

  local function ready(command)
    wait.eventually(function() return command:stderr():find("last sequence", 1, true) end)
    return command
  end

  it("prints all that is there, with its place and time, and ends", function()
    orders()
    local run = sub("--stream", "ORDERS")
    assert.equal(0, run.status, run.stderr)
    local text = run.stdout:gsub("%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ", "TIME")
    assert.equal(table.concat({
      "#1 TIME orders.created", "K: a", "K: b", "order 1", "#2 TIME orders.paid", "order 2",
      "#3 TIME orders.created", "order 3", "" }, "\n"), text)
    assert.matches("moonbus sub: stream ORDERS on nats://127.0.0.1:%d+, last sequence 3", run.stderr)
    assert.equal(0, w.client:stream_info("ORDERS").state.consumer_count)
  end)

  it("begins where it is told to", function()
    orders()
    assert.equal("order 1 order 2 order 3", data("--stream", "ORDERS", "--all"))
    assert.equal("order 3", data("--stream", "ORDERS", "--last"))
    assert.equal("order 2 order 3", data("--stream", "ORDERS", "--start-sequence", "2"))
    assert.equal("", data("--stream", "ORDERS", "--start-sequence", "7"))
    assert.equal("order 1 order 2 order 3", data("--stream", "ORDERS", "--since", "1h"))
    assert.equal("", data("--stream", "ORDERS", "--since", "0s"))
    assert.equal("order 2", data("--stream", "ORDERS", "--last", "orders.paid"))
    assert.equal("order 1 order 3", data("--stream", "ORDERS", "--subject", "orders.created"))
    assert.equal("order 1 order 3", data("orders.created", "--stream", "ORDERS"))
  end)

  it("finds the stream that takes the subject", function()
    orders()
    assert.equal("order 2", data("orders.paid", "--all"))
    local run = sub("nobody.takes.it", "--last")
    assert.equal(1, run.status)
    assert.matches('no_stream: no stream takes "nobody.takes.it"', run.stderr)
  end)

  it("prints JSON with the place, the time and the headers", function()
    orders()
    local run = sub("--stream", "ORDERS", "--json", "--count", "1")
    local event = cjson.decode(run.stdout)
    assert.same({ "ORDERS", 1, "orders.created", "order 1", { K = { "a", "b" } } },
      { event.stream, event.sequence, event.subject, event.data, event.headers })
    assert.matches("^%d+%-%d+%-%d+T%d+:%d+:%d+%.%d%d%d%d%d%d%d%d%dZ$", event.time)
  end)

  it("says of a dead letter where it came from, and why", function()
    w.client:stream("DEAD", { "dead.>" })
    w.client:store("dead.billing", "order", { ["Moonbus-Stream"] = "ORDERS",
      ["Moonbus-Consumer"] = "billing", ["Moonbus-Sequence"] = "4711",
      ["Moonbus-Subject"] = "orders.created", ["Moonbus-Attempt"] = "5",
      ["Moonbus-Timestamp"] = "1700000000000000000", ["Moonbus-Code"] = "no_responders",
      ["Moonbus-Error"] = 'nobody serves "charge"', K = "v" })
    local lines = sub("--stream", "DEAD").stdout:gsub("^%S+ %S+ ", "")
    assert.equal('dead.billing\ndead letter of orders.created #4711: no_responders: nobody serves "charge", '
      .. "attempt 5 of ORDERS/billing\nK: v\norder\n", lines)
    local event = cjson.decode(sub("--stream", "DEAD", "--json").stdout)
    assert.same({ subject = "orders.created", stream = "ORDERS", consumer = "billing", sequence = 4711,
      time = "2023-11-14T22:13:20.000000000Z", attempt = 5, code = "no_responders",
      error = 'nobody serves "charge"' }, event.dead_letter)
  end)

  it("steers no terminal by what a stranger wrote, unless --raw asks for it", function()
    w.client:stream("ORDERS", { "orders.>" })
    w.client:store("orders.created", "\27[2Jone\ntwo\t\7", { K = { "\27]0;title\7" } })
    local function on_terminal(...)
      local line = table.concat({ host_of.binary(), "sub", "-s", w.server.url, "--stream", "ORDERS", ... }, " ")
      return process.run { command = { "script", "-qec", line, "/dev/null" }, folder = w:folder() }.stdout
    end
    local shown = on_terminal()
    assert.is_nil(shown:find("[\27\7]"))
    assert.matches("K: \\x1b%]0;title\\x07", shown)
    assert.matches("\\x1b%[2Jone\r\ntwo\t\\x07\r\n$", shown)
    assert.matches("\27%[2Jone", on_terminal "--raw")
  end)

  it("looks at a work queue and takes nothing from it", function()
    orders { retention = "workqueue" }
    w.client:consumer("ORDERS", "worker", { ack_policy = "explicit" })
    assert.equal("order 1 order 2 order 3", data("--stream", "ORDERS"))
    assert.equal(3, w.client:consumer_info("ORDERS", "worker").num_pending)
  end)

  it("passes over what was deleted, and prints bytes as they are", function()
    orders()
    w.client:api("STREAM.MSG.DELETE.ORDERS", { seq = 2 })
    assert.equal("order 1 order 3", data("--stream", "ORDERS"))
    w.client:store("orders.bytes", "\0\255\r\n\n")
    assert.equal("\0\255\r\n\n", sub("--stream", "ORDERS", "--last", "--count", "1", "--raw").stdout)
    w.client:store("orders.bytes", "no break")
    assert.equal("no break", sub("--stream", "ORDERS", "--last", "--count", "1", "--raw").stdout)
  end)

  it("waits for --count, and exits 1 when --timeout comes first", function()
    orders()
    local run = sub("--stream", "ORDERS", "--count", "4", "--timeout", "300ms")
    assert.equal(1, run.status)
    assert.matches("timeout: 3 of 4 messages came", run.stderr)
    local command = start("--stream", "ORDERS", "--count", "4", "--raw")
    wait.eventually(function() return command:stdout():find "order 3" end)
    w.client:store("orders.created", "order 4")
    assert.equal(0, command:wait(5))
    assert.equal("order 1\norder 2\norder 3\norder 4\n", command:stdout())
  end)

  it("follows with --new until SIGINT", function()
    orders()
    local command = ready(start("--stream", "ORDERS", "--new", "--raw"))
    w.client:store("orders.created", "order 4")
    wait.eventually(function() return command:stdout() == "order 4\n" end)
    command:signal "INT"
    assert.equal(0, command:wait(5))
  end)

  it("follows through a purge, a restart of the server, and a stream that is made anew", function()
    orders { storage = "file" }
    local command = start("--stream", "ORDERS", "--follow", "--raw")
    wait.eventually(function() return command:stdout():find "order 3" end)
    w.client:purge "ORDERS"
    w.client:store("orders.created", "purged")
    wait.eventually(function() return command:stdout():find "purged\n$" end)
    w.server:restart()
    wait.eventually(function() return pcall(w.client.store, w.client, "orders.created", "restarted") end, 10)
    wait.eventually(function() return command:stdout():find "restarted" end, 15)
    w.client:delete_stream "ORDERS"
    w.client:stream("ORDERS", { "orders.>" })
    w.client:store("orders.created", "anew")
    wait.eventually(function() return command:output():find "anew\n" or not command:running() end, 10)
    if command:running() then
      assert.matches("was deleted and created again: on from its beginning", command:stderr())
      w.client:delete_stream "ORDERS"
    end
    assert.equal(1, command:wait(10)) -- it may have looked in between, when there was none
    assert.matches('stream "ORDERS" was deleted', command:stderr())
  end)

  it("names a stream that is not there, and what does not go together", function()
    w.client:stream("ORDERS", { "orders.>" })
    local run = sub("--stream", "NOWHERE")
    assert.equal(1, run.status)
    assert.matches('^moonbus sub: not_found: there is no stream "NOWHERE" on nats://[%w.:]+; there are [%w_, ]*ORDERS',
      run.stderr)
    for _, case in ipairs {
      { "--all and --last: one place to begin at", "--stream", "A", "--all", "--last" },
      { "--json and --raw: one of them", "a", "--json", "--raw" },
      { "--follow: goes with --stream", "a", "--follow" },
      { "--queue: not with a stream", "--stream", "A", "--queue", "q" },
      { '"a" and --subject: one filter', "--stream", "A", "a", "--subject", "b" },
      { "SUBJECT or --stream NAME is missing" },
      { "stream name", "--stream", "a.b" },
      { "--since: ", "--stream", "A", "--since", "soon" },
      { "--start-sequence: must be a number", "--stream", "A", "--start-sequence", "0" },
    } do
      local wrong = sub(unpack(case, 2))
      assert.equal(2, wrong.status, wrong.stderr)
      assert.is_truthy(wrong.stderr:find(case[1], 1, true), wrong.stderr)
    end
  end)
end)
