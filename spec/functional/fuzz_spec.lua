local process = require "spec.support.process"

local PROGRAM = os.getenv "MOONBUS":match "^(.*)/" .. "/moonbus_replay"

-- What the fuzzers found interesting, and what was wrong once: fuzz/corpus.
local READERS = {
  value = "durations, sizes, subjects and names",
  text = "what is escaped for the log",
  wire = "ack subjects, PubAcks and header fields",
  headers = "header blocks and statuses",
  parse = "what a server sends",
  jsapi = "answers of JetStream's API",
  letter = "stored messages and dead letters",
  pull = "what a server answers to pull requests",
  change = "what happens to a handler file",
  json = "JSON texts",
  config = "config files, the environment and URLs",
  cli = "command lines",
  http = "URLs, redirects and headers of requests",
  trace = "headers of traces",
  context = "contexts of the nats command line",
  times = "cron lines, and files of time zones",
}

local function exists(path)
  local file = io.open(path)
  return file and file:close()
end

local function replay(target)
  local command = { PROGRAM, target }
  for _, kind in ipairs { "seeds", "found" } do
    local path = ("fuzz/corpus/%s.%s"):format(target, kind)
    if exists(path) then command[#command + 1] = path end
  end
  return process.run { command = command, deadline = 60 }
end

describe("any bytes are read, or refused, as", function()
  for target, what in pairs(READERS) do
    it(what, function()
      local result = replay(target)
      assert.equal(0, result.status, result.stderr)
      assert.is_true(tonumber(result.stdout:match ": (%d+) inputs") > 10)
    end)
  end

  it("each of the targets that there are", function()
    local known = process.run { command = { PROGRAM } }.stderr:match "targets: (.*)\n"
    local count = 0
    for target in known:gmatch "%S+" do
      assert.is_truthy(READERS[target], target)
      count = count + 1
    end
    assert.equal(16, count)
  end)
end)
