-- What .ci/structure complains of, shown on little trees that break one rule each.
package.path = ".ci/?.lua;" .. package.path
local rules, house = require "rules", require "house"

local HOUSE = {
  floors = { base = {}, bus = { "base" }, app = { "base", "bus" } },
  rooms = { bus = { "*", "link", "consume", "bus" } },
  doors = { bus = { app = "bus/bus.h" } },
  without_lua = { "base", "bus" },
  with_nats = { "bus/link/" },
  with_mutexes = { "base/sync.h", "base/sync.c" },
  longest_file = 8,
  widest_line = 80,
  largest_ring = 2,
  still = {},
}

-- A header or C file with all that the rules want of it, and `lines` in it.
local function file(path, lines)
  local unit = path:match "([%w_]+)%.[ch]$"
  local body = table.concat(lines or {}, "\n") .. "\n"
  if path:match "%.h$" then
    local guard = "MOONBUS_" .. path:upper():gsub("[/.]", "_")
    body = ("#ifndef %s\n#define %s\n%s#endif\n"):format(guard, guard, body)
  end
  return { path = "host/" .. path, text = "/* " .. unit .. " - what it is. */\n" .. body }
end

-- Which rules have complained of something here.
local met = {}

local function check(tree, still)
  HOUSE.still = still or {}
  for _, name in ipairs(rules.names) do
    rules[name](tree, HOUSE, function() met[name] = true end)
  end
  return rules.check(tree, HOUSE)
end

describe("the shape of host/", function()
  it("is kept by the code as it is", function()
    local pipe = io.popen ".ci/structure 2>&1"
    local said = pipe:read "*a"
    pipe:close()
    assert.equal("", said)
  end)

  it("has nothing against a tree that keeps to it", function()
    assert.same({}, check {
      file("base/err.c", { '#include "base/err.h"' }),
      file "base/err.h",
      file("bus/consume/pull.c", { "#include <stdio.h>", '#include "bus/link/link.h"' }),
      file("bus/link/link.c", { "#include <nats/nats.h>", '#include "base/err.h"' }),
      file "bus/link/link.h",
    })
  end)

  it("complains of an include that has no path from host/, by which it would escape the other rules", function()
    local format = 'host/base/err.c:2: %s: an include has the path from host/, as in "base/err.h"'
    for _, name in ipairs { "err.h", "../bus/wire.h", "./err.h", "base/../bus/wire.h", "bux/wire.h" } do
      assert.same({ format:format(name) }, check { file("base/err.c", { ('#include "%s"'):format(name) }) })
    end
    assert.same({ format:format "../bus/wire.h" }, check { file("base/err.c", { "#include <../bus/wire.h>" }) })
    assert.same({ format:format "HEADER" }, check { file("base/err.c", { "#include HEADER" }) })
    assert.same({ "host/base/err.c:2: base/codes.c: only headers are included" },
      check { file("base/err.c", { '#include "base/codes.c"' }) })
    assert.same({}, check { file("base/err.c", { '#include "base/err.h"', "#include <sys/stat.h>" }) })
  end)

  it("sees an include however it is written", function()
    for _, line in ipairs { '#include <bus/wire.h>', '  #  include "bus/wire.h"', '#include"bus/wire.h"',
      '#include_next "bus/wire.h"', '#import "bus/wire.h"' } do
      assert.same({ "host/base/err.c:2: base/ includes bus/, which is no lower floor" },
        check { file("base/err.c", { line }) })
    end
  end)

  it("complains of a file that includes a higher floor", function()
    assert.same({ "host/base/err.c:2: base/ includes bus/, which is no lower floor" },
      check { file("base/err.c", { '#include "bus/wire.h"' }) })
    assert.same({ "host/web/page.c: no floor is called web/" }, check { file "web/page.c" })
  end)

  it("complains of a file that includes a higher room of its floor", function()
    assert.same({ "host/bus/link/link.c:2: bus/link includes bus/consume, which is no lower room" },
      check { file("bus/link/link.c", { '#include "bus/consume/pull.h"' }) })
    assert.same({ "host/bus/wire.c:2: bus/ includes bus/link, which is no lower room" },
      check { file("bus/wire.c", { '#include "bus/link/link.h"' }) })
    assert.same({}, check { file("bus/bus.c", { '#include "bus/consume/pull.h"' }) })
    assert.same({ "host/bus/cellar/wine.c: its room has no place in the order of rooms" },
      check { file "bus/cellar/wine.c" })
  end)

  it("complains of a floor that goes past the door of another one", function()
    assert.same({ "host/app/app.c:2: app/ sees bus/bus.h of bus/ alone" },
      check { file("app/app.c", { '#include "bus/link/link.h"' }) })
    assert.same({}, check { file("app/app.c", { '#include "bus/bus.h"' }) })
  end)

  it("complains of Lua and of nats.c where nobody knows them", function()
    assert.same({ "host/bus/wire.c:2: bus/ knows no Lua" },
      check { file("bus/wire.c", { "#include <lauxlib.h>" }) })
    assert.same({ "host/bus/wire.c:2: bus/ knows no Lua" },
      check { file("bus/wire.c", { "#include <luajit-2.1/lua.h>" }) })
    for _, name in ipairs { "nats/nats.h", "nats/status.h", "nats/adapters/libuv.h", "nats.h" } do
      assert.same({ "host/bus/wire.c:2: nats.c is named in bus/link/ alone" },
        check { file("bus/wire.c", { "#include <" .. name .. ">" }) })
    end
  end)

  it("complains of uthash by itself, which ends the process when memory is refused", function()
    assert.same({ "host/base/pool.c:2: hash tables are base/table.h's" },
      check { file("base/pool.c", { "#include <uthash.h>" }) })
    assert.same({}, check { file("base/table.h", { "#include <uthash.h>", "#include <utlist.h>" }) })
    local said = "it ends the process when memory is refused: of uthash there are base/table.h and utlist.h"
    assert.same({ "host/base/table.h:4: " .. said }, check { file("base/table.h", { "#include <utarray.h>" }) })
  end)

  it("complains of a header that brings cJSON along, unless it is private", function()
    local line = { "#include <cjson/cJSON.h>" }
    assert.same({ "host/bus/letter.h:4: a header for others says `struct cJSON;` instead" },
      check { file("bus/letter.h", line) })
    assert.same({ "host/bus/letter.h:4: a header for others says `struct cJSON;` instead" },
      check { file("bus/letter.h", { "#include <cJSON.h>" }) })
    assert.same({}, check { file("bus/letter.c", line), file("bus/letter_private.h", line) })
  end)

  it("complains of a private header in other hands, or by another name", function()
    local line = { '#include "bus/link/inlet_private.h"' }
    assert.same({ "host/bus/link/link.c:2: bus/link/inlet_private.h is for the files of bus/link/inlet alone",
      "host/bus/wire.c:2: bus/ includes bus/link, which is no lower room" }, {
      check({ file("bus/link/link.c", line) })[1], check({ file("bus/wire.c", line) })[1] })
    assert.same({}, check { file("bus/link/inlet.c", line), file("bus/link/inlet_tls.c", line) })
    assert.same({}, check { file("bus/link/tls.c", { '#include "bus/link/link_private.h"' }) })
    assert.same({ "host/bus/internal.h: a private header is called x_private.h" },
      check { file "bus/internal.h" })
  end)

  it("complains of a ring that is too large", function()
    local ring = {
      file("base/a.h", { '#include "base/b.h"' }),
      file("base/b.c", { '#include "base/c.h"' }),
      file("base/c.h", { '#include "base/a.h"' }),
    }
    assert.same({ "base: 3 units include each other in a ring, 2 are allowed: base/a base/b base/c" },
      check(ring))
    ring[3] = file("base/c.h", { '#include "base/b.h"' })
    assert.same({}, check(ring))
  end)

  it("complains of a long file, of host/ and of lua/", function()
    local lines = {}
    for i = 1, 9 do lines[i] = "int a" .. i .. ";" end
    assert.same({ "host/base/err.c: 10 lines, 8 are allowed",
      "lua/moonbus/init.lua: 9 lines, 8 are allowed" }, check {
      file("base/err.c", lines),
      { path = "lua/moonbus/init.lua", text = table.concat(lines, "\n") .. "\n" },
    })
  end)

  it("complains of a file that does not open with what it is", function()
    assert.same({ "host/base/err.c:1: opens with a comment that says what it is" },
      check { { path = "host/base/err.c", text = '#include "base/err.h"\n' } })
    local header = file "base/err.h"
    header.text = header.text:gsub("err %-", "errors:")
    assert.same({ "host/base/err.h:1: a header opens with its contract: /* err - what it is" },
      check { header })
  end)

  it("complains of a guard that does not fit the path", function()
    local header = file "base/err.h"
    header.text = header.text:gsub("BASE_ERR", "ERR")
    assert.same({ "host/base/err.h: its include guard has to be MOONBUS_BASE_ERR_H" }, check { header })
    header.text = "/* err - no guard at all. */\nint err_last(void);\n"
    assert.same({ "host/base/err.h: its include guard has to be MOONBUS_BASE_ERR_H" }, check { header })
  end)

  it("complains of a line of C with too many columns, which are not bytes", function()
    assert.same({ "host/base/err.c:2: 81 columns, 80 are allowed" },
      check { file("base/err.c", { "/* " .. ("─"):rep(75) .. " */", "/* " .. ("─"):rep(74) .. " */" }) })
  end)

  it("complains of mutexes, condition variables and what else threads wait at", function()
    local lines = { "static pthread_mutex_t lock;", "/* pthread_mutex_lock */", 'x("pthread_cond_wait");',
      "pthread_cond_signal(&cond);" }
    assert.same({
      "host/base/pool.c:2: pthread_mutex_t is base/sync's: struct mutex, struct cond, struct semaphore",
      "host/base/pool.c:5: pthread_cond_signal is base/sync's: struct mutex, struct cond, struct semaphore",
    }, check { file("base/pool.c", lines) })
    for _, name in ipairs { "pthread_rwlock_t", "pthread_spin_lock", "uv_mutex_t", "uv_sem_wait", "mtx_t", "cnd_wait",
      "sem_t", "sem_timedwait" } do
      local said = ("host/base/pool.c:2: %s is base/sync's: struct mutex, struct cond, struct semaphore"):format(name)
      assert.same({ said }, check { file("base/pool.c", { "x(" .. name .. ");" }) })
    end
    assert.same({}, check { file("base/pool.c", { "pthread_once(&once, make);", "int item_total, sem_total;" }) })
    assert.same({}, check { file("base/sync.c", lines) })
  end)

  it("complains of a tag that is defined twice, whatever its kind", function()
    assert.same({ "lane: host/bus/lane.c:2: enum lane is defined in host/base/lane.c already" }, check {
      file("base/lane.c", { "struct lane {", "    int a;", "};" }),
      file("bus/lane.c", { "enum lane { A };", "/* struct lane { */", "x = (struct lane){0};",
        "static struct lane lanes[] = {{1}};" }),
    })
    assert.same({ "lane: host/bus/lane.c:3: union lane is defined in host/base/lane.c already" }, check {
      file("base/lane.c", { "typedef struct lane { int a; } lane_t;" }),
      file("bus/lane.c", { "static struct {", "static const union lane {", "} all = {0};" }),
    })
    for _, attribute in ipairs { "__attribute__((packed))", "MUTEX_TYPE", "_Alignas(64)",
      "__attribute__((\naligned(8)))" } do
      local _, lines = attribute:gsub("\n", "")
      local said = "lane: host/bus/lane.c:%d: struct lane is defined in host/base/lane.c already"
      assert.same({ said:format(2 + lines) }, check { file("base/lane.c", { "struct lane {", "    int a;", "};" }),
          file("bus/lane.c", { "struct " .. attribute .. " lane {", "};" }) })
    end
  end)

  it("lets pass what is known to break a rule, until it no longer does", function()
    local bad = { file("bus/wire.c", { "#include <nats/nats.h>" }) }
    assert.same({}, check(bad, { nats = { "host/bus/wire.c" } }))
    assert.same({ ".ci/house.lua: still.nats does not need host/bus/wire.c any more" },
      check({ file "bus/wire.c" }, { nats = { "host/bus/wire.c" } }))
  end)

  it("has seen each rule complain, above", function()
    for _, name in ipairs(rules.names) do assert.is_true(met[name] == true, "nothing breaks the rule " .. name) end
  end)

  it("has each rule that is written in its list", function()
    local listed = { check = true, find_rings = true }
    for _, name in ipairs(rules.names) do listed[name] = true end
    for name, rule in pairs(rules) do
      if type(rule) == "function" then assert.is_true(listed[name] == true, name .. " is not in rules.names") end
    end
  end)

  it("knows the rules of every list of what still breaks one", function()
    for name in pairs(house.still) do assert.equal("function", type(rules[name]), name) end
  end)
end)
