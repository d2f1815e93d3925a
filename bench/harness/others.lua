-- The programs in other languages: which of them can run here, and why others cannot. Each knows the modes
-- of the bare C program, and "check", which says "ready" when all is there that it needs.
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"

local others = {}

-- Their names in the cases' table, and in what is printed.
others.NAMES = { go = "Go", node = "Node", python = "Python" }
others.ORDER = { "go", "node", "python" }

local function output_of(command)
  local pipe = io.popen(command .. " 2>&1")
  local text = pipe:read "*a"
  pipe:close()
  return text
end

-- Each gives a command, or nil and what is missing.
local commands = {}

function commands.node()
  if not temp.read "bench/node/node_modules/@nats-io/transport-node/package.json" then
    return nil, "it or its packages are not installed (make bench installs these)"
  end
  return { "node", posix.absolute "bench/node/main.mjs" }
end

-- bench/go/build has made it.
function commands.go()
  local path = posix.absolute "bench/go/contender"
  if not path then return nil, "go and Debian's package of nats.go are not installed" end
  return { path }
end

function commands.python() return { "python3", posix.absolute "bench/python/main.py" } end

-- Which can run: by name { command, version }; and for each of the others a note. without: a set of names.
function others.find(without)
  local found, notes = {}, {}
  for _, name in ipairs(others.ORDER) do
    local command, why = commands[name]()
    if without[name] then
      why = "not wanted"
    elseif command then
      local text = output_of(table.concat(command, " ") .. " check")
      local version = text:match "^ready ([^\n]*)\n$"
      if version then
        found[name] = { command = command, version = version }
      else
        why = text:match "[^\n]*Error[^\n]*" or text:match "^[^\n]*"
      end
    end
    if not found[name] then notes[#notes + 1] = ("%s left out: %s"):format(others.NAMES[name], why) end
  end
  return found, notes
end

return others
