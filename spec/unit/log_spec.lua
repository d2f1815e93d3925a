local cjson = require "cjson"
local ffi = require "ffi"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local units = require "spec.support.units"

units.include "base/log.h"
units.include "base/log_line.h"
units.include "base/text.h"
local lib = units.lib

if not pcall(ffi.typeof, "marker_log_spec") then
  ffi.cdef [[
    int dup(int fd);
    int setenv(const char *name, const char *value, int replace);
    int unsetenv(const char *name);
    typedef int marker_log_spec;
  ]]
end

local WRITE_CREATE_TRUNCATE = 1 + 64 + 512

describe("The log", function()
  local folder

  setup(function() folder = temp.folder() end)
  teardown(function()
    temp.remove(folder)
    lib.log_setup(ffi.C.LOG_INFO, ffi.C.LOG_AUTO)
  end)

  -- What body() writes to standard error.
  local function captured(body)
    local path = folder .. "/log"
    local saved = ffi.C.dup(2)
    local fd = posix.C.open(path, WRITE_CREATE_TRUNCATE, ffi.cast("int", 384))
    posix.C.dup2(fd, 2)
    local ok, message = pcall(body)
    posix.C.dup2(saved, 2)
    posix.C.close(saved)
    posix.C.close(fd)
    assert(ok, message)
    return temp.read(path)
  end

  -- One event in a format; fields of struct log_context in `context`.
  local function log(format, level, message, context)
    return captured(function()
      lib.log_setup(ffi.C.LOG_DEBUG, ffi.C["LOG_" .. format])
      local where = context and ffi.new("struct log_context", context)
      lib.log_event(ffi.C["LOG_" .. level], where, "%s", ffi.cast("const char *", message))
    end)
  end

  local function text(...) return log("TEXT", ...) end
  local function json(...)
    local line = log("JSON", ...)
    assert.equal(#line, (line:find("\n", 1, true)), "one line")
    return cjson.decode(line), line
  end

  local failure = {
    script = "orders.lua", handler = "ORDERS/billing", stream = "ORDERS", consumer = "billing",
    subject = "orders.created", sequence = 4711, attempt = 2, attempts = 5, code = "no_responders",
    file = "orders.lua", line = 14,
  }

  it("writes an error for people in one line that says where it belongs", function()
    assert.matches('^%d%d:%d%d:%d%d%.%d%d%d ERROR orders%.lua ORDERS/billing #4711 2/5 orders%.lua:14: '
      .. 'no_responders: nobody serves "payments%.charge"; nak in 2%.1s\n$',
      text("ERROR", 'nobody serves "payments.charge"; nak in 2.1s', failure))
  end)

  it("leaves out what is absent, and shows the subject where there is no stream", function()
    assert.matches("^[%d:.]+ INFO  started\n$", text("INFO", "started"))
    assert.matches("^[%d:.]+ WARN  hello%.lua greet%.%* greet%.ada slow\n$",
      text("WARN", "slow", { script = "hello.lua", handler = "greet.*", subject = "greet.ada" }))
    assert.matches("^[%d:.]+ DEBUG S/c x\n$", text("DEBUG", "x", { stream = "S", consumer = "c" }))
  end)

  it("puts a traceback under the line, indented", function()
    local trace = "stack traceback:\n\t[C]: in function 'error'\n\torders.lua:14: in main"
    assert.matches("boom\n    stack traceback:\n      %[C%]: in function 'error'\n      orders.lua:14: in main\n$",
      text("ERROR", "boom", { traceback = trace }))
    assert.equal(trace, json("ERROR", "boom", { traceback = trace }).traceback)
  end)

  it("writes an event for machines with all its keys", function()
    local event = json("ERROR", 'say "no"', failure)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", event.time)
    event.time = nil
    assert.same({
      level = "error", msg = 'say "no"', script = "orders.lua", handler = "ORDERS/billing", stream = "ORDERS",
      consumer = "billing", subject = "orders.created", sequence = 4711, attempt = 2, attempts = 5,
      code = "no_responders", file = "orders.lua", line = 14,
    }, event)
    event = json("INFO", "started")
    event.time = nil
    assert.same({ level = "info", msg = "started" }, event)
  end)

  it("says for machines what became of the message", function()
    local event = json("ERROR", "no", { verdict = "nak", delayed = true, delay_ns = 2100000000LL,
      dead_letter = "dead.billing", duration_ns = 12345678LL, generation = 3 })
    event.time = nil
    assert.same({ level = "error", msg = "no", verdict = "nak", delay_ms = 2100, dead_letter = "dead.billing",
      duration_ms = 12.345, generation = 3 }, event)
    assert.equal(0, json("ERROR", "no", { delayed = true }).delay_ms)
  end)

  it("has the keys that the documents list, and no others", function()
    local listed = {}
    local section = temp.read("docs/OPERATING.md"):match '<a id="log%-keys">.-\n\n(.-)\n\n'
    for names in section:gmatch "\n| (`[^|]*) |" do
      for name in names:gmatch "`([%w_]+)`" do listed[#listed + 1] = name end
    end
    -- Every field of the struct, whatever it is.
    local context = ffi.new "struct log_context"
    local struct = temp.read("host/base/log.h"):match "struct log_context (%b{})":gsub("/%*.-%*/", "")
    for kind, names in struct:gsub("const ", ""):gmatch "([%w_]+) ([^;]+);" do
      for name in names:gmatch "[%w_]+" do
        context[name] = kind:find "char" and (name == "fields" and "{}" or "x") or kind:find "bool" and true or 1
      end
    end
    local out, written = ffi.new "struct text", {}
    lib.text_init(out)
    lib.log_line_json(ffi.new("struct log_line", { context = context, message = "m", repeated = 1 }), out)
    for name in pairs(cjson.decode(ffi.string(out.bytes, out.len))) do written[#written + 1] = name end
    lib.text_clear(out)
    table.sort(listed)
    table.sort(written)
    assert.same(written, listed)
  end)

  it("leaves a code out of the text where the sentence says it all", function()
    local context = { script = "a.lua", file = "a.lua", line = 3, code = "handler_error", tacit = true }
    assert.matches("ERROR a.lua a.lua:3: boom\n$", text("ERROR", "boom", context))
    assert.equal("handler_error", json("ERROR", "boom", context).code)
  end)

  it("shows the user's fields, with every digit of a number", function()
    local fields = '{ "id": 9007199254740993, "who":"Ada L.","plain":"x","list":[1,{"a":2}],"none":null, "e":"" }'
    assert.matches('done id=9007199254740993 who="Ada L%." plain=x list=%[1,{"a":2}%] none=null e=""\n$',
      text("INFO", "done", { fields = fields }))
    local event, line = json("INFO", "done", { fields = fields })
    assert.equal("Ada L.", event.fields.who)
    assert.is_truthy(line:find('"id":9007199254740993', 1, true))
    assert.matches("done\n$", text("INFO", "done", { fields = "{}" }))
  end)

  it("does not let a value of the user's look like two fields", function()
    assert.matches('m a="1 b=2" "c=d"=e\n$', text("INFO", "m", { fields = [[{"a":"1 b=2","c=d":"e"}]] }))
    assert.matches('m a="\\" b=\\""\n$', text("INFO", "m", { fields = [[{"a":"\" b=\""}]] }))
    assert.matches('m a="x\\",y" b=1\n$', text("INFO", "m", { fields = [[{"a":"x\",y","b":1}]] }))
  end)

  it("keeps fields that are not a JSON object as text", function()
    for _, fields in ipairs { "[1]", "nonsense", "{", '{"a":1} x' } do
      assert.equal(fields, json("INFO", "m", { fields = fields }).fields)
      assert.is_truthy(text("INFO", "m", { fields = fields }):find("m " .. fields .. "\n", 1, true))
    end
  end)

  it("lets no payload forge a line or steer a terminal", function()
    local evil = "a\n00:00:00.000 INFO forged\r\27[31m\0\127 \194\155 \226\128\168 \226\128\174 end"
    evil = evil:gsub("%z", "")
    assert.matches("a\\n00:00:00%.000 INFO forged\\r\\x1b%[31m\\x7f \\u009b \\u2028 \\u202e end\n$", text("INFO", evil))
    local event, line = json("INFO", evil, { script = evil, traceback = evil })
    assert.equal(evil, event.msg)
    assert.equal(evil, event.script)
    assert.is_nil(line:sub(1, -2):find "[%c\127\226]")
    for _, place in ipairs { "script", "handler", "stream", "subject", "file", "code", "traceback" } do
      local written = text("INFO", "m", { [place] = "x\ny\27z" })
      local _, lines = written:gsub("\n", "")
      assert.is_true(lines == 1 or place == "traceback" and written:find("\n    y\\x1bz", 1, true) ~= nil)
      assert.is_nil(written:find "\27")
    end
  end)

  it("escapes bytes that are not UTF-8 and keeps all that is", function()
    local whole = "é € 🌙 \239\191\191 \244\143\191\191"
    assert.is_truthy(text("INFO", whole):find(whole, 1, true))
    assert.equal(whole, json("INFO", whole).msg)
    for _, broken in ipairs { "\255", "\192\175", "\237\160\128", "\244\144\128\128", "\226\130", "\128",
      "\240\159\140", "\248\136\128\128\128", "\252\128\128\128" } do
      local shown = broken:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end)
      assert.is_truthy(text("INFO", "<" .. broken .. ">"):find("<" .. shown .. ">", 1, true), shown)
      assert.equal("<" .. shown .. ">", json("INFO", "<" .. broken .. ">").msg)
      assert.equal(shown, json("INFO", "m", { fields = '{"a":"' .. broken .. '"}' }).fields.a)
    end
  end)

  it("looks at no byte behind the end of what it is given", function()
    local out = ffi.new "struct text"
    lib.text_init(out)
    lib.text_escape(out, "\226\130\172", 2)
    assert.equal("\\xe2\\x82", ffi.string(out.bytes, out.len))
    lib.text_clear(out)
  end)

  it("tells people their own time, and machines UTC", function()
    local before = os.getenv "TZ"
    ffi.C.setenv("TZ", "MOON-5", 1)
    local people = text("INFO", "x"):match "^(%d%d):"
    local machine = json("INFO", "x").time:match "T(%d%d):"
    if before then ffi.C.setenv("TZ", before, 1) else ffi.C.unsetenv "TZ" end
    lib.log_setup(ffi.C.LOG_INFO, ffi.C.LOG_AUTO)
    -- An hour may have begun between the two lines.
    local ahead = (tonumber(people) - tonumber(machine)) % 24
    assert.is_true(ahead == 5 or ahead == 4)
  end)

  it("writes long messages whole", function()
    local long = ("0123456789"):rep(20000)
    assert.equal(long, json("INFO", long).msg)
    assert.is_truthy(text("INFO", long):find(long, 1, true))
  end)

  it("is silent below its level", function()
    local levels = { "DEBUG", "INFO", "WARN", "ERROR" }
    for at, level in ipairs { "DEBUG", "INFO", "WARN", "ERROR", "OFF" } do
      local written = captured(function()
        lib.log_setup(ffi.C["LOG_" .. level], ffi.C.LOG_TEXT)
        for i, name in ipairs(levels) do
          assert.equal(i >= at, lib.log_enabled(ffi.C["LOG_" .. name]))
          lib.log_event(ffi.C["LOG_" .. name], nil, "here")
        end
      end)
      assert.equal(5 - at, select(2, written:gsub("here", "")))
    end
    assert.is_false(lib.log_enabled(ffi.C.LOG_OFF))
  end)

  it("is JSON by itself where standard error is no terminal", function()
    assert.equal("info", cjson.decode(log("AUTO", "INFO", "x")).level)
  end)

  it("knows its levels and formats by name, and no others", function()
    local level, format = ffi.new "enum log_level[1]", ffi.new "enum log_format[1]"
    for value, name in pairs { [0] = "debug", "info", "warn", "error", "off" } do
      assert.is_true(lib.log_parse_level(name, level))
      assert.equal(value, tonumber(level[0]))
    end
    for value, name in pairs { [0] = "auto", "text", "json" } do
      assert.is_true(lib.log_parse_format(name, format))
      assert.equal(value, tonumber(format[0]))
    end
    for _, name in ipairs { "", "INFO", "warning", "inf" } do
      assert.is_false(lib.log_parse_level(name, level))
      assert.is_false(lib.log_parse_format(name, format))
    end
  end)

  it("has a listener, who gets warnings and errors as JSON whatever the format is", function()
    local heard = {}
    local hear = ffi.cast("void (*)(void *, const char *, size_t)", function(_, line, len)
      heard[#heard + 1] = ffi.string(line, len)
    end)
    lib.log_listen(ffi.C.LOG_WARN, hear, nil)
    local function say(level, message) text(level, message, { script = "a.lua" }) end
    jit.off(log) -- compiled code may not be called back
    say("INFO", "nothing")
    say("WARN", "careful")
    say("ERROR", 'a "fault"')
    lib.log_listen(ffi.C.LOG_OFF, nil, nil)
    say("ERROR", "nobody listens")
    hear:free()
    assert.equal(2, #heard)
    local first, second = cjson.decode(heard[1]), cjson.decode(heard[2])
    assert.same({ "warn", "careful", "a.lua" }, { first.level, first.msg, first.script })
    assert.same({ "error", 'a "fault"' }, { second.level, second.msg })
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", first.time)
  end)
end)
