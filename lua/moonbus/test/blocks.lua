-- describe, it and the rest: what a test file says while it loads becomes a tree of blocks, which
-- then is run, in order.
local kit = require "moonbus.test"

local M = {}

local PENDING = {} -- raised by pending() inside a test

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
    if f.running then error({ [PENDING] = name or true }, 0) end
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

local function on_error(err)
  if type(err) == "table" and err[PENDING] then return err end
  local text = type(err) == "table" and err.message or err
  return { message = tostring(text), traceback = debug.traceback("", 2):gsub("^\n", "") }
end

-- nil, or the failure.
local function try(run)
  local ok, failure = xpcall(run, on_error)
  return not ok and failure or nil
end

local function try_all(list)
  for _, run in ipairs(list) do
    local failure = try(run)
    if failure then return failure end
  end
end

-- From the outermost block inwards.
local function before(block)
  if not block then return nil end
  return before(block.parent) or try_all(block.before_each)
end

local function after(block, failure)
  while block do
    local own = try_all(block.after_each)
    failure = failure or own
    block = block.parent
  end
  return failure
end

-- Scripts that a test has loaded itself end with it.
local function run_test(item)
  local open, began = kit.count(), os.clock()
  local failure = before(item.block) or try(item.test)
  local logged = failure and kit.logged()
  failure = after(item.block, failure)
  kit.close_from(open)
  local status = not failure and "passed" or failure[PENDING] and "pending" or "failed"
  return { name = item.name, status = status, failure = failure, logged = logged or nil, seconds = os.clock() - began }
end

local function is_wanted(item, filter)
  return item.test ~= nil and (not filter or item.name:find(filter)) or item.pending
    and (not filter or item.name:find(filter))
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
local function tell_of(block, what, failure, tell)
  if failure then
    tell { name = full_name(block, what), status = "failed", failure = failure, seconds = 0 }
  end
  return failure
end

local function run_block(block, filter, tell)
  if count_wanted(block, filter) == 0 then return end
  local open = kit.count()
  if not tell_of(block, "setup", try_all(block.setup), tell) then
    for _, item in ipairs(block.items) do
      if item.items then
        run_block(item, filter, tell)
      elseif is_wanted(item, filter) then
        tell(item.pending and { name = item.name, status = "pending", seconds = 0 } or run_test(item))
      end
    end
  end
  tell_of(block, "teardown", try_all(block.teardown), tell)
  kit.close_from(open)
end

-- Runs what matches the pattern (nil: all); tell(result) for each, with name, status ("passed",
-- "failed", "pending"), failure (message, traceback) and seconds.
function M.run(functions, root, filter, tell)
  functions.running = true
  run_block(root, filter, tell)
end

M.count = count_wanted

return M
