-- The runner of `moonbus test`: finds the files, loads and runs each, tells how it went. Returns a
-- function (options: paths, handlers, filter, junit) -> exit status; host/cli/test/test.c calls it.
local cjson = require "cjson"
local files = require "moonbus.test.files"
local junit = require "moonbus.test.junit"
local session = require "moonbus.test.session"

local OK, FAILED, UNUSABLE = 0, 1, 2

local function complain(format, ...)
  io.stderr:write("moonbus test: ", format:format(...), "\n")
  return UNUSABLE
end

-- --- which files ---

-- Each real file and folder once, however many links lead there.
local function find_below(folder, list, seen)
  local real = files.real(folder)
  local names = real and not seen[real] and files.list(folder)
  if not names then return end -- a ring of links, a folder that may not be read
  seen[real] = true
  table.sort(names)
  local prefix = folder:match "/$" and folder or folder .. "/"
  for _, name in ipairs(names) do
    if name:sub(-1) == "/" then
      find_below(prefix .. name, list, seen)
    elseif name:match "_test%.lua$" then
      list[#list + 1] = prefix .. name
    end
  end
end

local function add_path(path, list, seen)
  local found = {}
  if files.list(path) then
    find_below(path, found, {})
    if #found == 0 then return ("%s: holds no tests (*_test.lua)"):format(path) end
  else
    local text, why = files.read(path)
    if not text then return path .. ": " .. why end
    found[1] = path
  end
  for _, each in ipairs(found) do
    local key = files.real(each) or each
    if not seen[key] then
      seen[key] = true
      list[#list + 1] = each
    end
  end
end

-- Without paths: folders that may not be there.
local function find_default(handlers, list, seen)
  local looked = {}
  for _, folder in ipairs { handlers, { "test", "tests" } } do
    for _, path in ipairs(folder) do
      looked[#looked + 1] = path
      if files.list(path) then add_path(path, list, seen) end
    end
  end
  if #list == 0 then
    return ("no tests (*_test.lua) in %s; name the files or folders"):format(table.concat(looked, ", "))
  end
end

local function find_files(options)
  local list, seen = {}, {}
  if #options.paths == 0 then return list, find_default(options.handlers, list, seen) end
  for _, path in ipairs(options.paths) do
    local why = add_path(path, list, seen)
    if why then return list, why end
  end
  return list
end

-- --- one file ---

local function tell_result(result)
  if result.status ~= "failed" then
    local why = result.failure and result.failure.pending
    return print(("  %-7s %s%s"):format(result.status == "passed" and "ok" or "pending", result.name,
      why and why ~= "pending" and " (" .. why .. ")" or ""))
  end
  print("  FAILED  " .. result.name)
  print("    " .. result.failure.message:gsub("\n", "\n    "))
  for _, line in ipairs(result.logged or {}) do print("    log: " .. line) end
end

-- What is left as JUnit's XML of a run that a test ends, by blocks or by C: nothing can be made then.
local function prepare_end(file)
  if file.junit then session.last_words(file.junit, junit.halves(file.list, file.running or "outside of its tests")) end
end

-- What a file tells while it runs.
local hear = {}

function hear.unloaded(file, told)
  file.error = told.message
end

function hear.file(file, told)
  file.tests = told.tests
  if told.tests > 0 then print(file.path) end
end

function hear.begin(file, told)
  file.running = told.name
  prepare_end(file)
end

function hear.result(file, result)
  file.running = nil
  file.results[#file.results + 1] = result
  tell_result(result)
  prepare_end(file)
end

-- It could only be left by a jump out of its state, with whatever ran there; nothing after it runs.
local function end_left(file, options)
  local message = ("it computed for more than %s (--timeout), in a function written in C"):format(options.timeout)
  if not file.tests then
    file.error = file.path .. ": at its top level " .. message
    return
  end
  local missing = file.tests - #file.results - 1
  if missing > 0 then
    message = ("%s; %d more of this file did not run"):format(message, missing)
  end
  hear.result(file, { name = file.running or "?", status = "failed", seconds = 0,
    failure = { message = file.path .. ": " .. message } })
end

local function run_file(file, options)
  local wanted = cjson.encode { filter = options.filter, seed = options.seed }
  prepare_end(file)
  local ended, why = session.run(file.path, wanted, function(kind, text) hear[kind](file, cjson.decode(text)) end)
  if ended == "left" then
    end_left(file, options)
  elseif not ended then
    file.error = ("%s: the test kit itself failed: %s"):format(file.path, tostring(why))
  end
  if file.error then
    io.stdout:flush()
    io.stderr:write("error: ", file.error, "\n")
  end
end

-- --- all of them ---

local function summarize(list)
  local counts = { passed = 0, failed = 0, pending = 0 }
  local unloaded = 0
  for _, file in ipairs(list) do
    unloaded = unloaded + (file.error and 1 or 0)
    for _, result in ipairs(file.results) do counts[result.status] = counts[result.status] + 1 end
  end
  local text = ("%d passed, %d failed"):format(counts.passed, counts.failed)
  if counts.pending > 0 then text = ("%s, %d pending"):format(text, counts.pending) end
  if unloaded > 0 then text = ("%s; %d not loaded"):format(text, unloaded) end
  print(text)
  return unloaded > 0 and UNUSABLE or counts.failed > 0 and FAILED or OK, counts
end

local function write_junit(path, list)
  local file, why = io.open(path, "w")
  if not file then return complain("--junit: %s", why) end
  local ok
  ok, why = file:write(junit.text(list))
  local closed, why_not = file:close()
  if not ok or not closed then return complain("--junit: %s: %s", path, ok and why_not or why) end
  return OK
end

--- Before anything runs: it may take long.
local function check_junit(path)
  local file, why = io.open(path, "a")
  if not file then return complain("--junit: %s", why) end
  file:close()
end

local function check_filter(filter)
  local ok, why = pcall(string.find, "", filter)
  if not ok then return complain("--filter: %s is no Lua pattern: %s", filter, tostring(why):gsub("^.-: ", "")) end
end

return function(options)
  io.stdout:setvbuf "line"
  if not package.searchpath("luassert", package.path) then
    return complain("luassert, which tests assert with, was not found: it is in Debian's package lua-luassert")
  end
  if options.filter and check_filter(options.filter) then return UNUSABLE end
  local paths, why = find_files(options)
  if why then return complain("%s", why) end
  if options.junit and check_junit(options.junit) then return UNUSABLE end
  local list, any = {}, false
  for _, path in ipairs(paths) do
    local file = { path = path, results = {}, junit = options.junit, list = list }
    list[#list + 1] = file
    run_file(file, options)
    any = any or (file.tests or 0) > 0
  end
  local status, counts = summarize(list)
  if options.coverage then
    why = require("moonbus.test.coverage").tell(session.covered(), #options.paths == 0 and options.handlers or {})
    if why then return complain("%s", why) end
  end
  if options.junit and write_junit(options.junit, list) ~= OK then return UNUSABLE end
  if status == OK and not any then
    return complain(options.filter and "no test's name matches %s" or "there is no test in these files%.0s",
      options.filter or "")
  end
  return status, counts
end
