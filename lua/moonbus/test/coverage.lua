-- What of the handlers' code the tests have run, by line: a table for people, and luacov's file of counts where
-- luacov is installed.
local files = require "moonbus.test.files"
local util = package.loaded["jit.util"] or package.preload["jit.util"]("jit.util")

local M = {}

local RANGES_MOST = 12
local STATS = "luacov.stats.out"

-- --- which lines there are ---

-- Ends of blocks have an instruction that may never run, as behind a return.
local NO_CODE = { ["end"] = true, ["else"] = true, ["repeat"] = true, ["until"] = true, ["do"] = true }

local function has_code(text)
  for word in text:gsub("%-%-.*$", ""):gmatch "[%w_]+" do
    if not NO_CODE[word] then return true end
  end
  return text:find "[%w_]" == nil and text:find "[^%s%)%]},;]" ~= nil
end

-- The lines of a function's instructions, and of all functions in it.
local function add_lines(proto, lines)
  local info = util.funcinfo(proto)
  for at = 1, (info.bytecodes or 1) - 1 do
    local line = util.funcinfo(proto, at).currentline
    if line and line > 0 then lines[line] = true end
  end
  for index = -1, -(info.gcconsts or 0), -1 do
    local constant = util.funck(proto, index)
    if type(constant) == "proto" then add_lines(constant, lines) end
  end
end

-- Sorted; nil: it cannot be read.
local function code_lines(path)
  local text = files.read(path)
  local chunk = text and loadstring(text:gsub("^\239\187\191", ""):gsub("^#", "--#"), "@" .. path)
  if not chunk then return nil end
  local found, list, number = {}, {}, 0
  add_lines(chunk, found)
  for line in (text:match "\n$" and text or text .. "\n"):gmatch "([^\n]*)\n" do
    number = number + 1
    if found[number] and has_code(line) then list[#list + 1] = number end
  end
  return list, number
end

-- --- which files ---

-- Of a chunk the file: a script, a module beside it, or one of lib.
local function path_of(covered)
  local folder, name = covered.script:match "^(.*/)([^/]*)$"
  folder, name = folder or "", name or covered.script
  if covered.chunk == name then return covered.script end
  if files.read(folder .. covered.chunk) then return folder .. covered.chunk end
  return files.read(covered.chunk) and covered.chunk or nil
end

local function merge(list)
  local merged = {}
  for _, covered in ipairs(list) do
    local path = path_of(covered)
    path = path and path:gsub("^%./", ""):gsub("//+", "/")
    if path then
      local lines = merged[path] or {}
      merged[path] = lines
      for line, count in pairs(covered.lines) do lines[line] = (lines[line] or 0) + count end
    end
  end
  return merged
end

-- Handlers that no test has loaded.
local function add_unloaded(merged, handlers)
  for _, folder in ipairs(handlers) do
    local prefix = folder:match "/$" and folder or folder .. "/"
    for _, name in ipairs(files.list(folder) or {}) do
      local path = (prefix .. name):gsub("^%./", "")
      if name:match "%.lua$" and not name:match "_test%.lua$" and not merged[path] then merged[path] = {} end
    end
  end
end

-- --- telling ---

-- "12, 17-19": lines of code that have not run.
local function missing_of(code, lines)
  local ranges, from, last = {}, nil, nil
  local function close()
    if from then ranges[#ranges + 1] = from == last and tostring(from) or from .. "-" .. last end
    from = nil
  end
  for _, line in ipairs(code) do
    if lines[line] then
      close()
    else
      from, last = from or line, line
    end
  end
  close()
  if #ranges > RANGES_MOST then
    ranges[RANGES_MOST] = ("and %d more"):format(#ranges - RANGES_MOST + 1)
    for index = #ranges, RANGES_MOST + 1, -1 do ranges[index] = nil end
  end
  return table.concat(ranges, ", ")
end

local function percent(run, all)
  return all == 0 and 100 or math.floor(1000 * run / all) / 10
end

local function tell(name, run, all, missing, width)
  print(("  %-" .. width .. "s  %5.1f %%  %d of %d lines%s"):format(name, percent(run, all), run, all,
    missing ~= "" and "; not run: " .. missing or ""))
end

local function write_stats(merged, paths, counts)
  local file, why = io.open(STATS, "w")
  if not file then return "--coverage: " .. why end
  for _, path in ipairs(paths) do
    local last, parts = counts[path].last, {}
    for line = 1, last do parts[line] = tostring(merged[path][line] or 0) end
    file:write(last, ":", path, "\n", table.concat(parts, " "), "\n")
  end
  local ok
  ok, why = file:close()
  return not ok and "--coverage: " .. why or nil
end

-- covered: of coverage_push. nil, or what went wrong.
function M.tell(covered, handlers)
  local merged = merge(covered)
  add_unloaded(merged, handlers)
  local paths, counts, width, run, all = {}, {}, #"all", 0, 0
  for path in pairs(merged) do
    local code, last = code_lines(path)
    if code then
      paths[#paths + 1] = path
      counts[path] = { code = code, last = last, run = 0 }
      for _, line in ipairs(code) do counts[path].run = counts[path].run + (merged[path][line] and 1 or 0) end
      width, run, all = math.max(width, #path), run + counts[path].run, all + #code
    end
  end
  table.sort(paths)
  print "coverage:"
  for _, path in ipairs(paths) do
    local each = counts[path]
    local missing = next(merged[path]) and missing_of(each.code, merged[path]) or "all; no test loads it"
    tell(path, each.run, #each.code, missing, width)
  end
  tell("all", run, all, "", width)
  if package.searchpath("luacov", package.path) then return write_stats(merged, paths, counts) end
end

return M
