-- The runner of `moonbus test`: finds the files, loads and runs each, tells how it went. Returns a
-- function (options: paths, handlers, filter, junit) -> exit status; host/cli/test/test.c calls it.
local stage = require "moonbus.test.stage"

local OK, FAILED, UNUSABLE = 0, 1, 2

local function complain(format, ...)
  io.stderr:write("moonbus test: ", format:format(...), "\n")
  return UNUSABLE
end

-- --- which files ---

local function find_below(folder, list)
  local names = stage.list(folder)
  if not names then return end -- a ring of links, a folder that may not be read
  table.sort(names)
  local prefix = folder:match "/$" and folder or folder .. "/"
  for _, name in ipairs(names) do
    if name:sub(-1) == "/" then
      find_below(prefix .. name, list)
    elseif name:match "_test%.lua$" then
      list[#list + 1] = prefix .. name
    end
  end
end

local function add_path(path, list, seen)
  local found = {}
  if stage.list(path) then
    find_below(path, found)
    if #found == 0 then return ("%s: holds no tests (*_test.lua)"):format(path) end
  else
    local file, why = io.open(path)
    if not file then return why end
    file:close()
    found[1] = path
  end
  for _, each in ipairs(found) do
    local key = each:gsub("^%./", "")
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
      if stage.list(path) then add_path(path, list, seen) end
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

local function load_file(path, assertions)
  local blocks, kit = require "moonbus.test.blocks", require "moonbus.test"
  local functions, root = blocks.functions()
  local chunk, why = loadfile(path)
  if not chunk then return nil, why end
  local globals = setmetatable({ assert = assertions }, { __index = _G })
  globals._G = globals
  for name, f in pairs(functions) do globals[name] = f end
  kit.enter(path)
  local ok, err = xpcall(setfenv(chunk, globals), function(raised)
    return type(raised) == "table" and tostring(raised.message or raised) or tostring(raised)
  end)
  if not ok then
    kit.close_from(0)
    return nil, err
  end
  return { functions = functions, root = root, path = path }
end

local function tell_failure(result)
  print("  FAILED  " .. result.name)
  print("    " .. result.failure.message:gsub("\n", "\n    "))
  for _, line in ipairs(result.logged or {}) do print("    log: " .. line) end
end

local function run_file(loaded, filter, file)
  local blocks, kit = require "moonbus.test.blocks", require "moonbus.test"
  print(loaded.path)
  kit.enter(loaded.path)
  blocks.run(loaded.functions, loaded.root, filter, function(result)
    file.results[#file.results + 1] = result
    if result.status == "failed" then
      tell_failure(result)
    else
      print(("  %-7s %s"):format(result.status == "passed" and "ok" or "pending", result.name))
    end
  end)
  kit.close_from(0)
end

-- --- all of them ---

local function summarize(files)
  local counts = { passed = 0, failed = 0, pending = 0 }
  local unloaded = 0
  for _, file in ipairs(files) do
    unloaded = unloaded + (file.error and 1 or 0)
    for _, result in ipairs(file.results) do counts[result.status] = counts[result.status] + 1 end
  end
  local text = ("%d passed, %d failed"):format(counts.passed, counts.failed)
  if counts.pending > 0 then text = ("%s, %d pending"):format(text, counts.pending) end
  if unloaded > 0 then text = ("%s; %d not loaded"):format(text, unloaded) end
  print(text)
  return unloaded > 0 and UNUSABLE or counts.failed > 0 and FAILED or OK, counts
end

local function write_junit(path, files)
  local text = require("moonbus.test.junit").text(files)
  local file, why = io.open(path, "w")
  if not file then return complain("--junit: %s", why) end
  file:write(text)
  file:close()
  return OK
end

local function check_filter(filter)
  local ok, why = pcall(string.find, "", filter)
  if not ok then return complain("--filter: %s is no Lua pattern: %s", filter, tostring(why):gsub("^.-: ", "")) end
end

return function(options)
  io.stdout:setvbuf "line"
  local ok, assertions = pcall(require, "luassert")
  if not ok then
    return complain("luassert, which tests assert with, was not found: it is in Debian's package lua-luassert")
  end
  if options.filter and check_filter(options.filter) then return UNUSABLE end
  local paths, why = find_files(options)
  if why then return complain("%s", why) end
  local files, any = {}, false
  for _, path in ipairs(paths) do
    local file = { path = path, results = {} }
    files[#files + 1] = file
    local loaded
    loaded, file.error = load_file(path, assertions)
    if loaded and require("moonbus.test.blocks").count(loaded.root, options.filter) > 0 then
      any = true
      run_file(loaded, options.filter, file)
    elseif not loaded then
      io.stdout:flush()
      io.stderr:write("error: ", file.error, "\n")
    end
    require("moonbus.test").close_from(0)
  end
  local status, counts = summarize(files)
  if options.junit and write_junit(options.junit, files) ~= OK then return UNUSABLE end
  if status == OK and not any then
    return complain(options.filter and "no test's name matches %s" or "there is no test in these files%.0s",
      options.filter or "")
  end
  return status, counts
end
