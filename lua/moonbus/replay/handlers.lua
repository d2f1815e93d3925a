-- Which handlers there are, of the files that `moonbus run` would load, and which of them take a
-- message. Each file is loaded for that once, and runs nothing.
local files = require "moonbus.test.files"
local messages = require "moonbus.test.messages"
local script = require "moonbus.test.script"

local M = {}

local function load_one(path, found)
  local ok, loaded = pcall(script.new, path, {})
  if not ok then
    found.failures[#found.failures + 1] = { path = path, why = tostring(loaded) }
    return
  end
  for _, each in ipairs(loaded.registrations) do
    if script.takes_messages(each) then
      each.path, each.script = path, loaded.name
      found.handlers[#found.handlers + 1] = each
    end
  end
  loaded:close()
end

-- All of these paths: { handlers, failures }; nil and what is wrong with a path.
function M.load(paths)
  local found, seen = { handlers = {}, failures = {} }, {}
  for _, path in ipairs(paths) do
    local list, why = files.handlers(path)
    if not list then return nil, why end
    for _, file in ipairs(list) do
      if not seen[file] then load_one(file, found) end
      seen[file] = true
    end
  end
  return found
end

local function takes(each, subject)
  if not each.durable then return messages.matches(each.subject, subject) end
  for _, filter in ipairs(each.filters) do
    if messages.matches(filter, subject) then return true end
  end
  return #each.filters == 0
end

local function is_named(each, name)
  return each.durable == name or each.handler == name
end

-- Those that take the message; name: nil, or which one is meant. Of a stream's message the durables
-- of that stream, and where there is none the subscriptions to its subject.
function M.choose(found, message, name)
  local durables, subscriptions = {}, {}
  for _, each in ipairs(found.handlers) do
    if takes(each, message.subject) and (not name or is_named(each, name)) then
      if not each.durable then
        subscriptions[#subscriptions + 1] = each
      elseif not message.stream or each.stream == message.stream then
        durables[#durables + 1] = each
      end
    end
  end
  if name then
    for _, each in ipairs(subscriptions) do durables[#durables + 1] = each end
    return durables
  end
  return #durables > 0 and durables or subscriptions
end

local function shown(each)
  local what = "core NATS"
  if each.durable then what = #each.filters > 0 and table.concat(each.filters, ", ") or "all subjects" end
  return ("%s of %s (%s)"):format(each.handler, each.script, what)
end

-- Why none was chosen.
function M.explain(found, message, name)
  local lines = {}
  local where = message.stream and (" of stream " .. message.stream) or ""
  if name then
    lines[1] = ('no handler "%s" takes "%s"%s'):format(name, message.subject, where)
  else
    lines[1] = ('no handler takes "%s"%s'):format(message.subject, where)
  end
  local names = {}
  for _, each in ipairs(found.handlers) do names[#names + 1] = shown(each) end
  lines[2] = #names > 0 and "there are: " .. table.concat(names, "; ") or "there are no handlers of messages at all"
  lines[3] = "--against PATH names other handler files, --handler one of several"
  for _, failure in ipairs(found.failures) do
    lines[#lines + 1] = ("%s does not load: %s"):format(failure.path, failure.why)
  end
  return table.concat(lines, "\n  ")
end

return M
