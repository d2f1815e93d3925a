-- How a run starts the program that it is for, and what measures share.
local cpu = require "bench.harness.cpu"
local programs = require "bench.harness.programs"
local posix = require "spec.support.posix"

local serve = {}

function serve.pause(seconds) posix.C.poll(nil, 0, seconds * 1000) end

-- Starts moonbus serving what `case.serves` says; changes: fields that this run wants otherwise.
function serve.moonbus(run, changes)
  local serves = run.case.serves
  local settings = { durable = run.durable }
  for name, value in pairs(serves.settings or {}) do settings[name] = value end
  for name, value in pairs(run.variant.settings or {}) do settings[name] = value end
  local options = {
    handler = serves.moonbus, settings = settings, config = serves.config, server = run.server,
  }
  for name, value in pairs(changes or {}) do options[name] = value end
  return programs.start_moonbus(options)
end

-- Which contenders are the bare C program, and the headers that they send.
local HEADERS = { c = "yes", c_header = "yes", c_plain = "no", c_fetch = "no" }

-- Starts the program that the run is for. more: options for those that are not moonbus.
function serve.start(run, more)
  local serves = run.case.serves
  if run.contender == "moonbus" then return serve.moonbus(run) end
  local options = { url = run.server.url }
  for name, value in pairs(more or {}) do options[name] = value end
  local headers = HEADERS[run.contender]
  if not headers then return programs.start_other(run.contender, serves.others, options) end
  options.headers = headers
  return programs.start_c(run.contender == "c_fetch" and "fetch" or serves.c, options)
end

-- Runs a function with a program, which ends in any case.
function serve.with(started, fn)
  local ok, result = pcall(fn, started)
  local stopped, reason = pcall(started.stop, started)
  if not ok then error(result, 0) end
  if not stopped then error(reason, 0) end
  return result
end

-- What fn() gives, with the processor time of the program for each of the messages that it `sent`.
function serve.counted(started, fn)
  local before = cpu.look(started.pid)
  local result = fn()
  return cpu.per_message(result, before, cpu.look(started.pid), result.sent)
end

function serve.must_be(wanted, got, what)
  if wanted ~= got then error(("%s: %s wanted, %s came"):format(what, wanted, got), 0) end
end

return serve
