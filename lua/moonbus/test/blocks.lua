-- describe, it and the rest: what a test file says while it loads becomes a tree of blocks, which
-- then is run, in order.
local insulate = require "moonbus.test.insulate"
local kit = require "moonbus.test"
local live = require "moonbus.test.live"
local raised = require "moonbus.test.raised"
local session = require "moonbus.test.session"

local M = {}

local globals -- { world, file, own }: what tests see, and what of it is kept for all of them

-- --- the tree ---

local function new_block(name, parent)
  return { name = name, parent = parent, items = {}, setup = {}, teardown = {}, before_each = {}, after_each = {} }
end

local function full_name(block, name)
  local names = { name }
  while block and block.name do
    table.insert(names, 1, block.name)
    block = block.parent
  end
  return table.concat(names, " ")
end

-- The functions that a test file sees, around a root block.
function M.functions()
  local root = new_block()
  local here, f = root, {}

  local function check(name, run, what)
    if type(name) ~= "string" then error(what .. ": its name is a string", 3) end
    if run ~= nil and type(run) ~= "function" then error(what .. ": expected a function", 3) end
    if f.running then error(what .. ": not inside of a test", 3) end
  end

  function f.describe(name, run)
    check(name, run, "describe")
    local block = new_block(name, here)
    here.items[#here.items + 1] = block
    here = block
    run()
    here = block.parent
  end
  f.context = f.describe

  function f.it(name, run)
    check(name, run, "it")
    here.items[#here.items + 1] = { test = run, pending = run == nil, name = full_name(here, name), block = here }
  end

  function f.pending(name, run)
    if f.running then
      live.give_up(tostring(name or "pending"))
    end
    check(name, run, "pending")
    here.items[#here.items + 1] = { pending = true, name = full_name(here, name), block = here }
  end

  for _, kind in ipairs { "setup", "teardown", "before_each", "after_each" } do
    f[kind] = function(run)
      if type(run) ~= "function" then error(kind .. ": expected a function", 2) end
      local list = here[kind]
      list[#list + 1] = run
    end
  end
  return f, root
end

-- --- running it ---

-- nil, or the failure. name: for the last words, if it never comes back. stays: what it does to the
-- metatables of strings and the like is there afterwards, too.
function M.try(run, name, stays)
  live.begin()
  local failure = session.call(run, raised.failure, name, stays)
  if failure and live.reason then failure.pending = live.reason end
  return failure
end
local try = M.try

local function try_all(list, name)
  for _, run in ipairs(list) do
    local failure = try(run, name, true)
    if failure then return failure end
  end
end

-- From the outermost block inwards.
local function before(block, name)
  if not block then return nil end
  return before(block.parent, name) or try_all(block.before_each, name)
end

local function after(block, name, failure)
  while block do
    local own = try_all(block.after_each, name)
    failure = failure or own
    block = block.parent
  end
  return failure
end

local function try_alone(item)
  local taken = insulate.take(globals.world, globals.file, globals.own)
  local failure = try(item.test, item.name)
  insulate.put_back(taken)
  return failure
end

-- Scripts that a test has loaded itself end with it.
local function run_test(item, tell)
  tell("begin", { name = item.name })
  kit.begin()
  local open, began = kit.count(), os.clock()
  local failure = before(item.block, item.name) or try_alone(item)
  local logged = failure and kit.logged()
  failure = after(item.block, item.name, failure)
  kit.close_from(open)
  local status = not failure and "passed" or failure.pending and "pending" or "failed"
  tell("result", { name = item.name, status = status, failure = failure, logged = logged or nil,
    seconds = os.clock() - began })
end

local function is_wanted(item, filter)
  return (item.test ~= nil or item.pending) and (not filter or item.name:find(filter) ~= nil)
end

local function count_wanted(block, filter)
  local count = 0
  for _, item in ipairs(block.items) do
    if item.items then
      count = count + count_wanted(item, filter)
    elseif is_wanted(item, filter) then
      count = count + 1
    end
  end
  return count
end

-- A block that cannot be set up or torn down is a failure of its own.
local function run_hooks(block, what, tell)
  local name = full_name(block, what)
  tell("begin", { name = name })
  local failure = try_all(block[what], name)
  if failure then tell("result", { name = name, status = "failed", failure = failure, seconds = 0 }) end
  return failure
end

local function run_item(item, tell)
  if not item.pending then return run_test(item, tell) end
  tell("result", { name = item.name, status = "pending", seconds = 0 })
end

local function run_block(block, filter, tell)
  if count_wanted(block, filter) == 0 then return end
  local open = kit.count()
  if not run_hooks(block, "setup", tell) then
    for _, item in ipairs(block.items) do
      if item.items then
        run_block(item, filter, tell)
      elseif is_wanted(item, filter) then
        run_item(item, tell)
      end
    end
  end
  run_hooks(block, "teardown", tell)
  kit.close_from(open)
end

-- Runs what matches the pattern (nil: all). tell("begin", { name }) comes before each, tell("result",
-- ...) after it, with name, status ("passed", "failed", "pending"), failure (message, traceback),
-- logged and seconds.
-- seen: { world, file, own }: the globals of the state, those of the file, and what of these is the kit's.
function M.run(functions, root, filter, tell, seen)
  functions.running, globals = true, seen
  run_block(root, filter, tell)
end

M.count = count_wanted

return M
