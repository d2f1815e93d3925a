-- moonbus replay: today's code on one stored message. A function (options) -> exit status;
-- host/cli/replay/replay.c calls it. options: handlers, stream, sequence, dead, file, save, handler,
-- attempt, stub, for_real, json, connects, inbox, secrets, seed.
local fixture = require "moonbus.test.fixture"
local handlers = require "moonbus.replay.handlers"
local outside_stubs = require "moonbus.replay.given"
local report = require "moonbus.replay.report"
local run = require "moonbus.replay.run"
local shown = require "moonbus.replay.shown"
local server = require "moonbus.replay.server"
local source = require "moonbus.replay.source"

local OK, FAILED, UNUSABLE = 0, 1, 2

local function complain(status, format, ...)
  server.say(shown.hide(format:format(...)))
  return status
end

-- --- which message ---

local function find_message(options)
  if options.file then
    local message, why = fixture.read(options.file)
    if not message then return nil, UNUSABLE, why end
    return message
  end
  local message, letter
  if options.dead then
    message, letter = source.letter(server, options.dead, options.sequence)
  else
    message, letter = source.message(server, options.stream, options.sequence)
  end
  if not message then return nil, FAILED, letter end
  return message, letter
end

local function save(options, message, letter)
  if not options.save then return true end
  local kept = { consumer = letter and letter.consumer, attempt = letter and letter.attempt }
  for key, value in pairs(message) do kept[key] = kept[key] or value end
  return fixture.write(options.save, kept)
end

-- --- which handlers ---

local function choose(options, message, letter)
  local found, why = handlers.load(options.handlers)
  if not found then return nil, UNUSABLE, why .. ": name the handlers with --against PATH, or in moonbus.lua" end
  local name = options.handler or letter and letter.consumer or message.consumer
  local chosen = handlers.choose(found, message, name)
  if #chosen == 0 then return nil, FAILED, handlers.explain(found, message, name) end
  for _, failure in ipairs(found.failures) do
    server.note(shown.hide(("note: %s does not load: %s"):format(failure.path, failure.why)))
  end
  return chosen
end

-- --- all of it ---

local function attempt_of(options, message, letter)
  local attempt = options.attempt or message.attempt or letter and letter.attempt
  return attempt and attempt > 0 and attempt or 1
end

local function run_one(handler, message, options)
  local host
  local ok, result = pcall(function()
    host = run.open(handler, message, options)
    return run.deliver(host, message, options.attempt)
  end)
  if host then pcall(run.close, host) end
  if ok then return result end
  return { why = tostring(result) }
end

local function replay(options)
  local message, letter, why = find_message(options)
  if not message then return complain(letter, "%s", why) end
  local saved, unsaved = save(options, message, letter)
  if not saved then return complain(FAILED, "--save: %s", unsaved) end
  if not options.json then report.message(message, letter) end
  if options.save and not options.json then report.saved(options.save) end
  local chosen, status, reason = choose(options, message, letter)
  if not chosen then return complain(status, "%s", reason) end
  local given = { server = options.connected and server or nil, real = options.for_real, inbox = options.inbox,
    stubs = options.stubs, attempt = attempt_of(options, message, letter) }
  local results, well = {}, true
  for index, handler in ipairs(chosen) do
    given.seed = options.seed + index -- one of its own: what is random is not the same in two handlers
    local result = run_one(handler, message, given)
    results[index], well = result, well and result.verdict and run.is_well(result)
    if not options.json and result.verdict then report.outcome(handler, result, options.for_real) end
    if not options.json and not result.verdict then report.failed(handler, result.why) end
  end
  if options.json then report.json(message, letter, chosen, results, options) else
    report.summary(results, options.for_real)
  end
  return well and OK or FAILED
end

return function(options)
  shown.hide_all(options.secrets)
  local why
  options.stubs, why = outside_stubs.load(options.stub)
  if why then return complain(UNUSABLE, "--stub: %s", why) end
  if not options.file or options.connects or options.for_real then
    local opened, status = server.open()
    if not opened then return status end
    options.connected = true
  end
  return replay(options)
end
