-- moonbus and nats.js, the client for Node, on one server.
local node = require "spec.support.node"
local world = require "spec.support.world"

describe("beside nats.js", function()
  if not node.found() then
    pending(node.missing)
    return
  end

  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("a handler answers its requests", function()
    w:run [[require "moonbus".subscribe("greet.*", function(msg) return "hello " .. msg.data end)]]
    assert.same({ "hello ada" }, node.run(w.server.url, [[
      say((await nc.request("greet.it", args[0])).string());
    ]], { "ada" }))
  end)

  local CALC = [[
local bus = require "moonbus"
local calc = bus.service { name = "calc", version = "1.2.3", description = "sums", metadata = { region = "eu" } }
calc:endpoint("add", { metadata = { unit = "none" } }, function(msg)
  local body = msg:json()
  return { sum = body.a + body.b }
end)
calc:group("v1"):endpoint("fail", { queue = false }, function() return nil, "no way" end)]]

  it("a service is found, described and measured by its client of services", function()
    w:run(CALC)
    w:run(CALC)
    local said = node.run(w.server.url, [[
      const { Svcm } = require("@nats-io/services");
      const client = new Svcm(nc).client({ strategy: "stall", maxWait: 2000 });
      const all = async (found) => {
        const list = [];
        for await (const each of await found) list.push(each);
        return list;
      };
      say((await nc.request("add", JSON.stringify({ a: 1, b: 2 }))).json());
      const failed = await nc.request("v1.fail");
      say([failed.headers.get("Nats-Service-Error-Code"), failed.headers.get("Nats-Service-Error")]);
      say(await all(client.ping()));
      const infos = await all(client.info("calc"));
      say(infos);
      say(await all(client.stats("calc", infos[0].id)));
      say(await all(client.ping("nobody")).catch((error) => error.message));
    ]])
    assert.same({ sum = 3 }, said[1])
    assert.same({ "500", "no way" }, said[2])
    local pings, infos, stats = said[3], said[4], said[5]
    assert.equal(2, #pings)
    assert.are_not.equal(pings[1].id, pings[2].id)
    assert.equal("io.nats.micro.v1.ping_response", pings[1].type)
    assert.equal(2, #infos)
    for _, info in ipairs(infos) do
      assert.same({ "calc", "1.2.3", "sums", "eu" },
        { info.name, info.version, info.description, info.metadata.region })
      assert.same({ "add", "add", "q", "none" }, { info.endpoints[1].name, info.endpoints[1].subject,
        info.endpoints[1].queue_group, info.endpoints[1].metadata.unit })
      assert.same({ "fail", "v1.fail", "" }, { info.endpoints[2].name, info.endpoints[2].subject,
        info.endpoints[2].queue_group })
    end
    assert.equal(1, #stats)
    assert.equal("io.nats.micro.v1.stats_response", stats[1].type)
    local fail = stats[1].endpoints[2]
    assert.same({ 1, 1, "no way" }, { fail.num_requests, fail.num_errors, fail.last_error })
    assert.is_true(fail.processing_time > 0 and fail.processing_time == fail.average_processing_time)
  end)

  it("a service has queue groups of its own, and data, in the words of its client", function()
    w:run [[
local bus = require "moonbus"
local function stats(endpoint) return { at = endpoint.name } end
local own = bus.service { name = "own", version = "1.0.0", queue = "workers", stats = stats }
own:endpoint("a", function() return "a" end)
own:endpoint("b", { queue = "special", metadata = { format = "text" } }, function() return "b" end)
own:endpoint("c", { queue = false }, function() return "c" end)
own:group("g", { queue = "grouped" }):endpoint("d", function() return "d" end)
bus.service { name = "each", version = "1.0.0", queue = false }:endpoint("e", function() return "e" end)]]
    local said = node.run(w.server.url, [[
      const { Svcm } = require("@nats-io/services");
      const client = new Svcm(nc).client({ strategy: "stall", maxWait: 500 });
      const first = async (found) => { for await (const each of await found) return each; };
      say((await first(client.info("own"))).endpoints);
      say((await first(client.info("each"))).endpoints);
      let stats;
      for (let i = 0; i < 100; i++) {
        stats = await first(client.stats("own"));
        if (stats.endpoints.every((each) => each.data)) break;
      }
      say(stats.endpoints);
    ]])
    local groups = {}
    for _, endpoint in ipairs(said[1]) do groups[endpoint.subject] = endpoint.queue_group end
    assert.same({ a = "workers", b = "special", c = "", ["g.d"] = "grouped" }, groups)
    assert.equal("text", said[1][2].metadata.format)
    assert.equal("", said[2][1].queue_group)
    for _, endpoint in ipairs(said[3]) do assert.same({ at = endpoint.name }, endpoint.data) end
  end)

  it("a service of its own is found by bus.request_many, and its errors are bus.request's", function()
    local service = node.start(w.server.url, [[
      const { Svcm } = require("@nats-io/services");
      const service = await new Svcm(nc).add({ name: "node", version: "0.1.0" });
      service.addEndpoint("half", (error, msg) => msg.respond(msg.json() / 2 + ""));
      service.addEndpoint("deny", (error, msg) => msg.respondError(403, "not you"));
      await nc.flush();
      say("serves");
      await nc.closed();
    ]])
    finally(function() service:close() end)
    service:wait_said(1)
    w:run [[
local bus = require "moonbus"
bus.service { name = "lua", version = "1.0.0" }
bus.subscribe("ask", function()
  local found, denied = {}, {}
  for msg in bus.request_many("$SRV.PING", "", { stall = "300ms", max = 2 }) do found[#found + 1] = msg:json().name end
  table.sort(found)
  for _, err in bus.request_many("deny", "", { max = 1 }) do denied = { err.code, err.status, err.message } end
  local _, err = bus.request("deny", "")
  return { found = found, half = bus.request("half", "42").data, denied = denied, status = err.status }
end)]]
    local got = assert(w.client:request("ask", "")):json()
    assert.same({ found = { "lua", "node" }, half = "21", denied = { "service_error", 403, "not you" }, status = 403 },
      got)
  end)
end)
