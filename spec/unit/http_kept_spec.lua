-- Connections are used again, however many calls there are at a time.
local http = require "spec.support.http_units"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

describe("HTTP: a connection that nobody uses", function()
  local server, client

  before_each(function()
    server = web.start()
    client = http.client { per_host = 500 }
  end)
  after_each(function()
    client:close()
    server:close()
  end)

  local function connections() return tonumber(client:counts().connections) end

  local function ask(count, url)
    local calls = {}
    for i = 1, count do calls[i] = client:new { url = url }:ask() end
    return calls
  end

  local function answer(calls)
    for _, call in ipairs(calls) do assert.equal(200, call:result().status) end
  end

  it("is used by the next call: as many are opened as there are calls at a time", function()
    for _ = 1, 3 do answer(ask(300, server:url "/slow/200")) end
    assert.is_true(connections() <= 300, connections() .. " connections")
  end)

  it("is found beside others whose calls hang", function()
    local other = web.start()
    local hanging = ask(20, other:url "/hang")
    wait.eventually(function() return other:stats().running == 21 end) -- and who asks
    for _ = 1, 5 do answer(ask(1, server:url "/echo")) end
    assert.equal(21, connections())
    for _, call in ipairs(hanging) do call:cancel() end
    other:close()
  end)

  it("is found after calls that could not connect, and after others that broke off", function()
    local nobody = ("http://127.0.0.1:%d/"):format(posix.free_port())
    for _, url in ipairs { nobody, server:url "/nothing", server:url "/reset", server:url "/cut" } do
      for _, call in ipairs(ask(5, url)) do assert.is_not_equal("", call:result().message) end
    end
    local before = connections()
    for _ = 1, 5 do answer(ask(1, server:url "/echo")) end
    assert.is_true(connections() <= before + 1)
  end)

  it("is opened anew when the server has closed it", function()
    answer(ask(3, server:url "/slow/50"))
    for _, call in ipairs(ask(3, server:url "/nothing")) do call:result() end
    answer(ask(1, server:url "/echo"))
    local before = connections()
    for _ = 1, 5 do answer(ask(1, server:url "/echo")) end
    assert.equal(before, connections())
  end)
end)
