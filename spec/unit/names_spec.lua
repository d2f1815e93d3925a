-- What .ci/pages complains of, shown on little trees in which one page names what is not there. That the pages keep to
-- it is in docs_spec.lua.
package.path = ".ci/?.lua;" .. package.path
local pages = require "pages"

local HOUSE = { floors = { base = {}, engine = {} }, rooms = { engine = { "hooks", "sched", "run", "*" } } }

local ARCHITECTURE = [[
# Architecture

The [map](internals/map.md#base). See `base/err.h`, `err.c`, `struct err`, `err_set` and `host/`.

## Floors and rooms

```
 engine ──▶ base
```

| floor | what it is | its rooms | it does not know |
|---|---|---|---|
| `base/` | errors | | anything above |
| `engine/` | scripts | `sched/` `run/` | |
]]

local REFERENCE = [[
# Reference

- [`moonbus`](#moonbus): [sleep](#bussleep) · [now](#busnow)

## moonbus

### bus.sleep

### bus.now
]]

-- A tree in which all is there, with some files changed.
local function tree(changed)
  local text = {
    ["README.md"] = "[The architecture](docs/ARCHITECTURE.md), docs/REFERENCE.md, docs/OPERATING.md\n",
    ["docs/ARCHITECTURE.md"] = ARCHITECTURE,
    ["docs/OPERATING.md"] = "```\nmoonbus run [PATH...]\nmoonbus log-level\n```\n",
    ["docs/REFERENCE.md"] = REFERENCE,
    ["docs/internals/map.md"] = "## base\n\n| `err` | errors |\n| `engine` | scripts |\n",
    ["host/base/err.h"] = "struct err { int code; };\nint err_set(struct err *err);\n",
    ["host/base/err.c"] = "",
    ["host/base/err_private.h"] = "",
    ["host/engine/engine.c"] = "",
    ["host/engine/sched/engine_private.h"] = "",
    ["host/engine/run/engine_private.h"] = "",
    ["host/cli/commands.c"] = 'cli_commands[] = {\n    {"run", ""},\n    {"log-level", ""},\n};',
    ["lua/moonbus/init.lua"] = "\nlocal M = {\n  now = core.now,\n}\nfunction M.sleep(duration)\nend\n",
    ["lua/library/moonbus.lua"] = "\nfunction bus.sleep(duration) end\n\nfunction bus.now() end\n",
  }
  text["docs/internals/map.md"] = text["docs/internals/map.md"] .. "| `commands` | the table |\n"
  for path, by in pairs(changed or {}) do text[path] = by or nil end
  return { text = text }
end

-- In the place of `old`, which the file has.
local function changed(path, old, new)
  local text = tree().text[path]
  local start, stop = text:find(old, 1, true)
  return { [path] = text:sub(1, start - 1) .. new .. text:sub(stop + 1) }
end

-- Which rules have complained of something here.
local met = {}

local function check(files)
  for _, name in ipairs(pages.rules) do
    pages[name](tree(files), HOUSE, function() met[name] = true end)
  end
  return pages.check(tree(files), HOUSE)
end

describe("What the pages name", function()
  it("is there, in a tree that keeps to it", function() assert.same({}, check()) end)

  it("is a link to a file, and to a heading of it", function()
    local path = "docs/ARCHITECTURE.md"
    assert.same({ path .. ":3: the link internals/maps.md leads to no file" },
      check(changed(path, "internals/map.md#base", "internals/maps.md")))
    assert.same({ path .. ":3: the link internals/map.md#bus leads to no heading" },
      check(changed(path, "map.md#base", "map.md#bus")))
    assert.same({ path .. ":3: the link #floors leads to no heading" },
      check(changed(path, "internals/map.md#base", "#floors")))
    assert.same({}, check(changed(path, "internals/map.md#base", "#floors-and-rooms")))
    assert.same({}, check(changed(path, "internals/map.md#base", "https://nats.io/maps.md#no")))
    assert.same({}, check(changed("docs/OPERATING.md", "moonbus run", "[moonbus](no.md)\nmoonbus run"))) -- no prose
  end)

  it("is each page, from the README", function()
    assert.same({ "README.md: does not lead to docs/REFERENCE.md" },
      check(changed("README.md", "docs/REFERENCE.md", "")))
  end)

  it("is a file or a folder", function()
    local path = "docs/ARCHITECTURE.md"
    for _, name in ipairs { "base/err.cc", "host/base/errs.h", "bases/", ".ci/shape", "spec/NEW" } do
      assert.same({ ("%s:3: there is no %s"):format(path, name) },
        check(changed(path, "`base/err.h`", "`" .. name .. "`")))
    end
    for _, name in ipairs { "host/base/err.h", "base/err", "engine/sched/", "run/", "build/moonbus", "spec/NAME" } do
      assert.same({}, check(changed(path, "`base/err.h`", "`" .. name .. "`")))
    end
  end)

  it("is a function, a struct or a word of the code", function()
    local path = "docs/ARCHITECTURE.md"
    for _, name in ipairs { "err_sets", "err_sets()", "struct errs", "err.codes", "errs.lua", "errs.c" } do
      assert.same({ ("%s:3: nothing in the code is called %s"):format(path, name) },
        check(changed(path, "`err_set`", "`" .. name .. "`")))
    end
    for _, name in ipairs { "err_set()", "err.code", "code", "api_yours", "x_new", "make nothing", "a = 1" } do
      assert.same({}, check(changed(path, "`err_set`", "`" .. name .. "`")))
    end
  end)

  it("is each unit of the host, on its map", function()
    local path = "docs/internals/map.md"
    assert.same({ path .. ": host/base/err has no row: | `err` | what it is |" },
      check(changed(path, "| `err` | errors |\n", "")))
    local said = check(changed(path, "| `err` |", "| `errs` | |\n| `err` |"))
    assert.same({ path .. ":3: nothing in the code is called errs", path .. ":3: there is no unit errs" }, said)
  end)

  it("is each floor, with its rooms", function()
    local path = "docs/ARCHITECTURE.md"
    assert.same({ path .. ":14: the rooms of engine/ are `sched/` `run/`" },
      check(changed(path, "`sched/` `run/`", "`run/` `sched/`")))
    assert.same({ path .. ": the drawing of floors has no base" }, check(changed(path, "──▶ base", "")))
    assert.same({ path .. ": the drawing of floors has bases, which is none" },
      check(changed(path, "──▶ base", "──▶ base, bases")))
    assert.same({ path .. ": the table of floors has no row for `base/`" },
      check(changed(path, "| `base/` |", "| base |")))
    assert.same({ path .. ":13: there is no floor run/" },
      check(changed(path, "| `base/` |", "| `run/` | | | |\n| `base/` |")))
  end)

  it("is each command", function()
    assert.same({ "docs/OPERATING.md: the list of commands has no line that begins with: moonbus log-level" },
      check(changed("docs/OPERATING.md", "moonbus log-level\n", "moonbus log-levels\n")))
  end)

  it("is each function of a module, in the reference and for editors, and no other", function()
    local page, library = "docs/REFERENCE.md", "lua/library/moonbus.lua"
    assert.same({ page .. ":3: the link #busnow leads to no heading", page .. ": there is no heading: ### bus.now" },
      check(changed(page, "### bus.now", "### bus.nows")))
    assert.same({ page .. ": the list at its top has no link to bus.now" },
      check(changed(page, " · [now](#busnow)", "")))
    assert.same({ library .. ": has no bus.now" }, check(changed(library, "function bus.now() end", "")))
    assert.same({ library .. ":4: there is no bus.then" },
      check(changed(library, "function bus.now() end", "function bus.then() end\nfunction bus.now() end")))
  end)

  it("has seen each rule complain, above", function()
    for _, name in ipairs(pages.rules) do assert.is_true(met[name] == true, "nothing breaks the rule " .. name) end
  end)

  it("has each rule that is written in its list", function()
    local listed = { check = true }
    for _, name in ipairs(pages.rules) do listed[name] = true end
    for name, rule in pairs(pages) do
      if type(rule) == "function" then assert.is_true(listed[name] == true, name .. " is not in pages.rules") end
    end
  end)
end)
