-- Programs on Node that use the clients of others (spec/interop/package.json): what those make of
-- moonbus, and moonbus of them. node.found() is nil where there are none; `.ci/deps interop` installs them.
--
--   local node = require "spec.support.node"
--   if not node.found() then pending(node.missing) return end
--   local lines = node.run(w.server.url, [[
--     const { Kvm } = require("@nats-io/kv");
--     const kv = await new Kvm(nc).open("config");
--     say(Array.from(await kv.history()));
--   ]])                                      -- what it said, decoded: one value for each `say`
--
-- A program is the body of an async function with `nc`, a connection to the server, `say(value)`, and
-- `args`, a list of texts.
local cjson = require "cjson"
local ffi = require "ffi"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local node = {
  missing = "needs Node and the clients on it, which are not here: .ci/deps interop installs them",
}

local AROUND = [[
const { connect } = require("@nats-io/transport-node");
const say = (value) => process.stdout.write(JSON.stringify(value, (_, each) =>
  typeof each === "bigint" ? Number(each) : each) + "\n");
const main = async (nc, args) => {
%s
};
(async () => {
  const nc = await connect({ servers: process.argv[2] });
  await main(nc, process.argv.slice(3));
  await nc.close();
})().catch((error) => { console.error(error); process.exit(1); });
]]

local function has_program(name)
  for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    local file = io.open(folder .. "/" .. name)
    if file then
      file:close()
      return true
    end
  end
  return false
end

-- The folder that the packages are in.
function node.found()
  local folder = os.getenv "INTEROP" or "build-interop"
  return has_program "node" and temp.read(folder .. "/installed") and folder or nil
end

local function absolute(path)
  local resolved = posix.C.realpath(path, nil)
  local text = ffi.string(resolved)
  posix.C.free(resolved)
  return text
end

local function said_of(text)
  local said = {}
  for line in text:gmatch "([^\n]+)\n" do said[#said + 1] = cjson.decode(line) end
  return said
end

local program = {}
program.__index = program

-- Begins a program that may go on until program:close(), and ends with the spec's process.
function node.start(url, text, args)
  local self = setmetatable({ folder = temp.folder() }, program)
  temp.write(self.folder, "program.js", (AROUND:gsub("%%s", function() return text end)))
  local command = { "node", self.folder .. "/program.js", url }
  for _, arg in ipairs(args or {}) do command[#command + 1] = arg end
  self.process = process.start {
    command = command, folder = self.folder,
    env = { NODE_PATH = absolute(node.found()) .. "/node_modules" },
  }
  return self
end

-- What it has said so far.
function program:said()
  return said_of(self.process:stdout())
end

-- Waits until it has said so many things. Raises, with what it did say, when it ends before that.
--
-- A program that watches says what it sees of something that was there before: only then is it known to
-- see what comes next. The clients' watch() is over before the server may deliver to it, and a watch that is
-- begun once more skips values that others have replaced.
function program:wait_said(count, seconds)
  local function told() return ("%s%s"):format(self.process:stdout(), self.process:stderr()) end
  local ended
  local said = wait.eventually(function()
    ended = not self.process:running()
    local said = self:said()
    return (ended or #said >= count) and said
  end, seconds or 20, told)
  if #said < count then error(("it ended, and had said %d of %d: %s"):format(#said, count, told()), 2) end
  return said
end

function program:close()
  self.process:close()
  temp.remove(self.folder)
end

-- Runs a program to its end, and gives what it said; raises what it failed with.
function node.run(url, text, args)
  local self = node.start(url, text, args)
  local ok, status = pcall(self.process.wait, self.process, 30)
  local said, complaint = self.process:stdout(), self.process:stderr()
  self:close()
  if not ok then error(status, 2) end
  if status ~= 0 then error(complaint, 2) end
  return said_of(said)
end

return node
