-- `make lint` fails at what breaks the house: shown on a little tree of its own, in which one thing is wrong at a
-- time. What .ci/structure complains of is in structure_spec.lua, rule by rule; what .ci/pages does, in names_spec.lua.
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"

local HEADER = [[
/* one - what it is. */
#ifndef MOONBUS_BASE_ONE_H
#define MOONBUS_BASE_ONE_H

int one_of(int number);

#endif
]]

local SOURCE = [[
/* What it is. */
#include "base/one.h"

#include "base/sync.h"

static struct mutex lock = MUTEX_STATIC;
static int count;

static void add(int number) NEEDS(&lock);

static void add(int number)
{
    count += number;
}

int one_of(int number)
{
    mutex_lock(&lock);
    add(number);
    mutex_unlock(&lock);
    return number;
}
]]

local SCRIPT = "#!/bin/sh\necho one\n"

-- What is linted as it should be. base/sync.h has the attributes that clang checks locks by.
local function tree(folder)
  for _, name in ipairs { ".clang-format", ".clang-tidy", ".luacheckrc", "Makefile", ".ci/structure", ".ci/rules.lua",
    ".ci/house.lua", ".ci/pages", ".ci/pages.lua", ".ci/tidy", "host/base/bug.h", "host/base/strand.h",
    "host/base/sync.h" } do
    temp.write(folder, name, assert(temp.read(name), name))
  end
  temp.write(folder, ".ci/deps", "#!/bin/sh\n") -- nothing is installed
  for _, name in ipairs { "deps", "pages", "structure", "tidy" } do
    posix.C.chmod(folder .. "/.ci/" .. name, 493) -- 0755
  end
  temp.write(folder, "host/base/one.h", HEADER)
  temp.write(folder, "host/base/one.c", SOURCE)
  temp.write(folder, "lua/moonbus/one.lua", "return function(number) return number end\n")
  temp.write(folder, "run", SCRIPT)
  temp.write(folder, "docs/internals/map.md", "| `one` | what `one_of` is |\n\n`bug` `strand` `sync`\n")
  temp.write(folder, "build/compile_commands.json", ([=[[{ "directory": "%s", "file": "host/base/one.c",
    "command": "cc -std=c11 -D_GNU_SOURCE -Ihost -c host/base/one.c" }]]=]):format(folder))
end

-- What a linter is given by `make lint`, here: files, folders, and patterns of the shell.
local function given_to(linter)
  local run = process.run { command = { "make", "-n", "lint" }, folder = ".", deadline = 60,
    env = { MAKEFLAGS = false, MAKELEVEL = false, MFLAGS = false } }
  local words = assert(("\n" .. run.stdout):match("\n" .. linter:gsub("%-", "%%-") .. "([^\n]*)"), run.stderr)
  local list = {}
  for word in words:gmatch "%S+" do list[#list + 1] = word end
  return list
end

local function is_given(list, path)
  for _, word in ipairs(list) do
    local pattern = "^" .. word:gsub("[%.%-]", "%%%0"):gsub("%*", "[^/]*") .. "$"
    if path:find(pattern) or path:sub(1, #word + 1) == word .. "/" then return true end
  end
  return false
end

-- Those in git that no list has; wanted(path, first line of it).
local function left_out(list, wanted)
  local names, pipe = {}, io.popen "git ls-files"
  for path in pipe:lines() do
    local file = io.open(path)
    local first = file and file:read "*l" or ""
    if file then file:close() end
    if wanted(path, first) and not is_given(list, path) then names[#names + 1] = path end
  end
  pipe:close()
  return names
end

describe("make lint looks at", function()
  it("each C file and header", function()
    assert.same({}, left_out(given_to "clang-format", function(path) return path:find "%.[ch]$" end))
  end)

  it("each Lua file", function()
    assert.same({}, left_out(given_to "luacheck", function(path, first)
      return path:find "%.lua$" or first:find "^#!.*luajit"
    end))
  end)

  it("each script for the shell", function()
    assert.same({}, left_out(given_to "shellcheck", function(_, first) return first:find "^#!.*%f[%w]b?a?sh%f[%W]" end))
  end)
end)

local TOOLS = { "clang-format", "clang-tidy", "luacheck", "make", "shellcheck" }

describe("make lint", function()
  local missing
  for _, tool in ipairs(TOOLS) do
    if os.execute("command -v " .. tool .. " >/dev/null") ~= 0 then missing = tool end
  end
  if missing then
    pending("needs " .. missing)
    return
  end

  local folder
  before_each(function()
    folder = temp.folder()
    tree(folder)
  end)
  after_each(function() temp.remove(folder) end)

  local function lint()
    local run = process.run {
      command = { "make", "lint", "SHELL_FILES=run" }, folder = folder, deadline = 60,
      env = { MAKEFLAGS = false, MAKELEVEL = false, MFLAGS = false }, -- it may be make that runs the suite
    }
    return run.status, run.stdout .. run.stderr
  end

  -- In the place of `text`, which a file has once.
  local function change(path, text, by)
    local whole = temp.read(folder .. "/" .. path)
    local start, stop = whole:find(text, 1, true)
    temp.write(folder, path, whole:sub(1, start - 1) .. by .. whole:sub(stop + 1))
  end

  local function fails_at(...)
    local status, said = lint()
    assert.equal(2, status, said)
    for _, text in ipairs { ... } do assert.is_truthy(said:find(text, 1, true), text .. " in\n" .. said) end
  end

  it("has nothing against what is right", function()
    local status, said = lint()
    assert.equal(0, status, said)
    assert.equal("Total: 0 warnings / 0 errors in 6 files\n", (said:gsub("\27%[%d*m", "")))
  end)

  it("fails at C that is not formatted", function()
    change("host/base/one.c", "    return number;", "  return number;")
    fails_at("one.c:20:", "[-Wclang-format-violations]")
  end)

  it("fails at what luacheck finds, also in what lints", function()
    change("lua/moonbus/one.lua", "return number", "local unused = 1 return number")
    change(".ci/house.lua", "return {", "local unused\nreturn {")
    fails_at("lua/moonbus/one.lua:1:", ".ci/house.lua:2:", "unused")
  end)

  it("fails at what shellcheck finds", function()
    temp.write(folder, "run", SCRIPT .. "rm -r $1\n")
    fails_at("SC2086")
  end)

  it("fails at what breaks a rule of the house", function()
    change("host/base/one.c", "/* What it is. */\n", "")
    fails_at("host/base/one.c:1: opens with a comment that says what it is")
  end)

  it("fails at what the pages name and is not there", function()
    change("docs/internals/map.md", "one_of", "two_of")
    change("docs/internals/map.md", "`sync`", "[sync](sync.md)")
    fails_at("docs/internals/map.md:1: nothing in the code is called two_of",
      "docs/internals/map.md:3: the link sync.md leads to no file", "host/base/sync has no row")
  end)

  it("fails at a fault that clang-tidy finds", function()
    change("host/base/one.c", "return number;", "return number == number;")
    fails_at("one.c:21:", "[misc-redundant-expression")
    change("host/base/one.c", "    add(number);", "    while (number > 5)\n        add(1);")
    fails_at("one.c:19:", "[bugprone-infinite-loop")
  end)

  it("fails at a fault in a header, also at one of a function that returns a bool, which is a macro", function()
    change("host/base/one.h", "int one_of(int number);",
      "#include <stdbool.h>\n\nint one_of(int count);\nbool is_one(int it);")
    change("host/base/one.c", "int one_of", "bool is_one(int number)\n{\n    return number == 1;\n}\n\nint one_of")
    fails_at("one.h:7:", "one.h:8:", "[readability-inconsistent-declaration-parameter-name")
  end)

  local LOCKED, UNLOCKED = "    mutex_lock(&lock);\n", "    mutex_unlock(&lock);\n"
  for what, fault in pairs {
    ["that is given back on one way out only"] = { UNLOCKED, "    if (number > 5)\n    " .. UNLOCKED },
    ["that it gives back, and has not taken"] = { LOCKED .. "    add(number);\n", "" },
    ["that who is called wants"] = { LOCKED .. "    add(number);\n", "    add(number);\n" .. LOCKED },
  } do
    it("fails at a lock " .. what, function()
      change("host/base/one.c", fault[1], fault[2])
      fails_at("[clang-diagnostic-thread-safety-analysis")
    end)
  end
end)
