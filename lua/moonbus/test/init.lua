-- moonbus.test - what tests of handlers load scripts with: docs/TESTING.md.
local script = require "moonbus.test.script"
local stage = require "moonbus.test.stage"

local M = {}

local open = {}   -- all that have been loaded and not closed
local folder = "" -- of the test file that runs

local function is_there(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil and not stage.list(path)
end

-- path: from the current folder, else from that of the test file. options: streams = { { name,
-- subjects } } that are there before it; seed of all chance.
function M.load(path, options)
  options = options or {}
  if type(path) ~= "string" then error("load: the path of a handler file is a string", 2) end
  for key in pairs(options) do
    if key ~= "streams" and key ~= "seed" then
      error(('load: unknown option "%s": there are streams and seed'):format(tostring(key)), 2)
    end
  end
  local found = path
  if not is_there(path) then
    found = folder .. path
    if not is_there(found) then
      error(("load: there is no file %s here%s"):format(path, folder ~= "" and ", nor " .. found or ""), 2)
    end
  end
  local loaded = script.new(found, options)
  open[#open + 1] = loaded
  return loaded
end

-- The clock of every script that is loaded: timers, delayed naks, timeouts. Returns the result of
-- the last one.
function M.advance(duration)
  local result
  for _, each in ipairs(open) do result = each:advance(duration) end
  return result
end

-- --- for the runner ---

function M.enter(file) folder = file:match "^(.*/)[^/]*$" or "" end

-- What scripts have logged since the last result of each was begun: a line for each, the last ones.
local LINES_MOST = 10
function M.logged()
  local lines = {}
  for _, each in ipairs(open) do
    for _, event in ipairs(each.record.logged) do
      lines[#lines + 1] = ("%s %s: %s"):format(event.level, each.name, event.message)
    end
  end
  while #lines > LINES_MOST do table.remove(lines, 1) end
  return lines
end

-- How many there are; closes those that came later.
function M.count() return #open end
function M.close_from(count)
  for index = #open, count + 1, -1 do
    open[index]:close()
    open[index] = nil
  end
end

return M
