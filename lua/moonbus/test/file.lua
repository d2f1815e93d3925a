-- One test file, in its own Lua state: loads it, runs its tests, tells the runner of each.
local blocks = require "moonbus.test.blocks"
local cjson = require "cjson"
local files = require "moonbus.test.files"
local kit = require "moonbus.test"
local session = require "moonbus.test.session"

local function tell(kind, value)
  session.tell(kind, cjson.encode(value))
end

-- What a test file sees: globals of its own, over those of its state.
local function globals_of(world, functions)
  local own = { assert = world.require "luassert" }
  for name, f in pairs(functions) do own[name] = f end
  local file = setmetatable({}, { __index = world })
  own._G = file
  for name, f in pairs(own) do file[name] = f end
  return { world = world, file = file, own = own }
end

-- Its blocks, and what it sees; nil and why it does not load.
local function load_file(path, world, seed)
  local text, why = files.read(path)
  if not text then return nil, ("%s: %s"):format(path, why) end
  local chunk
  chunk, why = loadstring(text:gsub("^#[^\n]*", ""), "@" .. path)
  if not chunk then return nil, why end
  local functions, root = blocks.functions()
  local globals = globals_of(world, functions)
  setfenv(chunk, globals.file)
  kit.enter(path)
  kit.prepare(functions.it, seed)
  local failure = blocks.try(chunk, path, true)
  if failure then return nil, failure.message end
  return functions, root, globals
end

-- options: filter, a pattern; seed, of properties. world: the globals of the state.
return function(path, options, world)
  local functions, root, globals = load_file(path, world, options.seed)
  if not functions then
    kit.close_from(0)
    return tell("unloaded", { message = root })
  end
  local wanted = blocks.count(root, options.filter)
  tell("file", { tests = wanted })
  if wanted > 0 then
    blocks.run(functions, root, options.filter, tell, globals)
  end
  kit.close_from(0)
end
