-- The counts that are committed (baseline.json), what they were made with, and what has grown since.
local cases = require "bench.instructions.cases"
local cjson = require "cjson"
local temp = require "spec.support.temp"

local baseline = {}

baseline.PATH = "bench/instructions/baseline.json"
baseline.MOST_GROWTH = 0.05
baseline.REFRESH = "make bench-instructions UPDATE=yes"

local function line_of(command)
  local pipe = io.popen(command .. " 2>/dev/null")
  local text = pipe:read "*a"
  pipe:close()
  return text:match "^[^\n]*"
end

-- What the counts of a build depend on: another compiler makes other instructions of the same text.
function baseline.made_with(build)
  local cache = temp.read(build .. "/CMakeCache.txt") or ""
  local function cached(name) return cache:match("\n" .. name .. ":[%u]+=([^\n]*)") or "" end
  return {
    compiler = line_of(("'%s' --version"):format(cached "CMAKE_C_COMPILER")):gsub("^%S+ ", ""),
    architecture = line_of "uname -m",
    luajit = jit.version,
    build = cached "CMAKE_BUILD_TYPE",
    flags = cached "CMAKE_C_FLAGS",
    sanitizer = cached "MOONBUS_SANITIZE",
  }
end

-- nil when counts of this build can be compared with the committed ones; else a sentence.
function baseline.differs(committed, build)
  local here = baseline.made_with(build)
  for _, name in ipairs { "architecture", "compiler", "luajit", "build", "flags", "sanitizer" } do
    local wanted = committed.made_with[name]
    if wanted ~= here[name] then
      return ("compare only with those of the same %s: they were made with \"%s\", here it is \"%s\"")
        :format(name, wanted, here[name])
    end
  end
end

function baseline.read() return cjson.decode((assert(temp.read(baseline.PATH), baseline.PATH))) end

local function rounded(number) return ("%.0f"):format(number) end

-- One line for each case, so that a diff says what has changed.
function baseline.write(counts, build)
  local made, lines = baseline.made_with(build), {}
  local out = { "{", '  "made_with": {' }
  for _, name in ipairs { "architecture", "build", "compiler", "flags", "luajit", "sanitizer" } do
    lines[#lines + 1] = ("    %q: %s"):format(name, cjson.encode(made[name]):gsub("\\/", "/"))
  end
  out[#out + 1] = table.concat(lines, ",\n") .. "\n  },"
  lines = {}
  for _, case in ipairs(cases) do
    local count, floors = counts[case.name], {}
    for name, each in pairs(count.floors) do floors[#floors + 1] = ("%q: %s"):format(name, rounded(each)) end
    table.sort(floors)
    lines[#lines + 1] = ("  %q: { \"total\": %s, %s }"):format(case.name, rounded(count.total),
      table.concat(floors, ", "))
  end
  out[#out + 1] = table.concat(lines, ",\n") .. "\n}\n"
  local file = assert(io.open(baseline.PATH, "w"))
  file:write(table.concat(out, "\n"))
  file:close()
end

-- How much a case has grown: 0.02 is two percent.
function baseline.growth(committed, counts, name)
  return counts[name].total / committed[name].total - 1
end

-- nil, or what to say of a case that has grown too much: with Lua, or the host by itself.
function baseline.complaint(committed, counts, name)
  local now, before = counts[name], committed[name]
  local growth = math.max(now.total / before.total,
    (now.total - now.floors.lua) / (before.total - before.lua)) - 1
  if growth <= baseline.MOST_GROWTH then return nil end
  local first = ("%s: it has grown by %.1f %%. If that is meant, say why in the commit, with \"%s\"."
    .. " Instructions for a message, before and now:"):format(cases.by_name[name].title, growth * 100,
    baseline.REFRESH)
  local lines = {}
  for floor, count in pairs(now.floors) do
    lines[#lines + 1] = ("  %-7s %6d %6.0f"):format(floor, before[floor] or 0, count)
  end
  table.sort(lines)
  table.insert(lines, 1, first)
  lines[#lines + 1] = ("  %-7s %6d %6.0f"):format("total", before.total, now.total)
  return table.concat(lines, "\n")
end

return baseline
