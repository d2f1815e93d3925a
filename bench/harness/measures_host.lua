-- Measures of the host itself, its start, its memory, its metrics: see measures.lua.
local cpu = require "bench.harness.cpu"
local posix = require "spec.support.posix"
local programs = require "bench.harness.programs"
local serve = require "bench.harness.serve"
local wait = require "spec.support.wait"

local must_be, with = serve.must_be, serve.with
local measures = {}

-- From the start of the process until it serves, and what it needs when it has nothing to do.
function measures.start(run)
  return with(serve.start(run), function(started)
    serve.pause(run.smoke and 0.05 or 0.5)
    return { ready_ms = started.ready_ms, idle_mb = programs.memory_bytes(started.pid) / 1e6 }
  end)
end

-- What one more script needs.
function measures.scripts(run)
  local count = run.smoke and 10 or 200
  local names = {}
  for index = 1, count do names[index] = { name = "s" .. index, text = programs.handler "respond" } end
  local function memory(handler)
    return with(serve.moonbus(run, { handler = handler }), function(started)
      serve.pause(run.smoke and 0.05 or 0.5)
      return programs.memory_bytes(started.pid)
    end)
  end
  return { script_kb = (memory(names) - memory { names[1] }) / (count - 1) / 1e3 }
end

-- What one suspended handler needs.
function measures.suspended(run)
  local messages = run.smoke and 500 or 50000 -- two handlers each
  return with(serve.moonbus(run), function(started)
    local before = programs.memory_bytes(started.pid)
    programs.load("flow", {
      url = run.server.url, size = 128, window = 4096, count = messages, warm_ms = 0, ms = 60000,
    })
    wait.eventually(function() return started:running() == 2 * messages end, 60,
      function() return started:running() .. " handlers are suspended" end)
    return { suspended_kb = (programs.memory_bytes(started.pid) - before) / (2 * messages) / 1e3 }
  end)
end

local SCRAPED = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "SCRAPED", subjects = { "scraped.>" }, storage = "memory" }
for i = 1, 25 do
  bus.subscribe("core." .. i, function() return "" end)
  js.consume("SCRAPED", { durable = "d" .. i, filter = "scraped." .. i, dead_letter = false }, function() end)
end]]

-- What it costs the host to say all that it knows, once each handler has run.
function measures.scrape(run)
  local scrapes = run.smoke and 5 or 200
  return with(serve.moonbus(run, { handler = { { name = "scraped", text = SCRAPED } } }), function(started)
    local port = tonumber(started.host.admin:match "%d+$")
    for i = 1, 25 do
      assert(run.client:request("core." .. i, ""))
      run.client:store("scraped." .. i, "")
    end
    local before, text = cpu.look(started.pid), nil
    for _ = 1, scrapes do text = posix.http_get(port, "/metrics") end
    local used = cpu.between(before, cpu.look(started.pid))
    local _, handlers = text:gsub("\nmoonbus_handler_info{", "")
    must_be(50, handlers, "handlers")
    return { scrape_ms = used / scrapes / 1e6 }
  end)
end

return measures
