local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/value.h"
local lib = units.lib

local NS, US, MS = 1LL, 1000LL, 1000000LL
local S, M, H, D = 1000 * MS, 60000 * MS, 3600000 * MS, 86400000 * MS

-- What a parser of "text to int64" makes of a text: the value, or nil and the sentence.
local function parse(parser, text)
  local out, err = ffi.new("int64_t[1]", -1), units.err()
  if parser(text, #text, out, err) == 0 then
    return out[0]
  end
  assert.equal("invalid", (units.read_err(err)))
  assert.equal(-1LL, out[0], "an error must leave the output alone")
  return nil, ffi.string(err.message)
end

local function duration(text) return parse(lib.value_duration, text) end
local function size(text) return parse(lib.value_size, text) end

local function seconds(number)
  local out, err = ffi.new "int64_t[1]", units.err()
  if lib.value_seconds(number, out, err) == 0 then
    return out[0]
  end
  return nil, ffi.string(err.message)
end

local function each(cases, check)
  for text, wanted in pairs(cases) do
    assert.equal(wanted, (check(text)), text)
  end
end

local function refuses(parser, texts, pattern)
  for _, text in ipairs(texts) do
    local value, message = parser(text)
    assert.is_nil(value, text)
    assert.matches(pattern, message)
  end
end

describe("A duration", function()
  it("is a number and a unit", function()
    each({
      ["7ns"] = 7 * NS, ["7us"] = 7 * US, ["250ms"] = 250 * MS, ["5s"] = 5 * S, ["2m"] = 2 * M,
      ["1h"] = H, ["7d"] = 7 * D, ["0s"] = 0LL, ["007s"] = 7 * S,
    }, duration)
  end)

  it("may be several of them, in falling units", function()
    each({ ["1m30s"] = 90 * S, ["1h30m"] = 90 * M, ["1d12h"] = 36 * H, ["1h0m5s"] = H + 5 * S,
      ["1s1ms1us1ns"] = 1001001001LL }, duration)
  end)

  it("may have a fraction, which is exact", function()
    each({ ["1.5s"] = 1500 * MS, ["0.1s"] = 100 * MS, ["1.000000001s"] = S + 1, ["2.5m"] = 150 * S,
      ["0.3ms"] = 300 * US, ["1m0.5s"] = M + 500 * MS, ["1.5ns"] = 1LL,
      ["0.3333333333333333333333333333s"] = 333333333LL }, duration)
  end)

  it("is seconds when it is a bare number", function()
    each({ ["30"] = 30 * S, ["0"] = 0LL, ["1.5"] = 1500 * MS, ["0.001"] = MS }, duration)
  end)

  it("need not end in NUL", function()
    local out = ffi.new "int64_t[1]"
    assert.equal(0, lib.value_duration("5s7", 2, out, nil))
    assert.equal(5 * S, out[0])
  end)

  it("is refused with the value and the forms that are wanted", function()
    local _, message = duration "5 parsecs"
    assert.equal('"5 parsecs" is not a duration: write "250ms", "5s", "1m30s", "2h" or a number of seconds',
      message)
    refuses(duration, { "", "s", "5x", "5 s", " 5s", "5s ", "5S", "5M", "1m30", "5.s", ".5s", "1.2.3s", "1e3",
      "+5s", "0x10", "five", "5,5s", "5s\0", "inf", "nan" }, "is not a duration: write")
  end)

  it("is refused with units that repeat or rise", function()
    refuses(duration, { "5s5s", "30s1m", "1ms1s" }, "is not a duration")
  end)

  it("is never negative", function()
    refuses(duration, { "-5s", "-1", "-0.5s" }, "cannot be negative")
  end)

  it("ends at ten years, in whichever unit", function()
    assert.equal(3650 * D, (duration "3650d"))
    assert.equal(3650 * D, (duration "315360000"))
    refuses(duration, { "3651d", "3650d1ns", "87601h", "99999999999999999999s",
      "18446744073709551616ns", "99999999999d" }, "is more than 10 years$")
  end)

  it("that is a number of nanoseconds gets a hint", function()
    refuses(duration, { "30000000000", "315360001" }, "counts seconds here %(NATS' own JSON counts nanoseconds%)")
  end)

  it("shows a hostile value on one line and at a bounded length", function()
    local _, message = duration("5\n\27" .. ("x"):rep(2000))
    assert.matches('^"5\\x0a\\x1bxxx', message)
    assert.matches('xxx%.%.%." is not a duration', message)
    assert.is_true(#message < 400)
    _, message = duration(("é"):rep(500))
    assert.matches('é%.%.%." is', message)
  end)

  it("gives its code also to those who want no sentence", function()
    assert.equal(ffi.C.ERR_INVALID, lib.value_duration("x", 1, ffi.new "int64_t[1]", nil))
  end)
end)

describe("A number of seconds", function()
  it("is rounded to the nanosecond", function()
    for number, wanted in pairs { [0] = 0LL, [1] = S, [0.1] = 100 * MS, [2.5] = 2500 * MS,
      [1e-9] = 1LL, [0.3] = 300 * MS, [2.01] = 2010 * MS, [315360000] = 3650 * D } do
      assert.equal(wanted, (seconds(number)), number)
    end
    assert.equal(0LL, (seconds(-0.0)))
  end)

  it("is refused when it is negative, NaN or endless", function()
    assert.matches("^%-1: a duration cannot be negative", select(2, seconds(-1)))
    assert.matches("nan is not a duration", select(2, seconds(0 / 0)))
    assert.matches("^inf is more than 10 years", select(2, seconds(math.huge)))
    assert.matches("negative", select(2, seconds(-math.huge)))
  end)

  it("that would be centuries is refused with a hint at nanoseconds", function()
    local value, message = seconds(30e9)
    assert.is_nil(value)
    assert.matches("^30000000000 is more than 10 years: .*NATS' own JSON counts nanoseconds", message)
    assert.is_nil((seconds(315360001)))
  end)
end)

describe("A duration that is shown", function()
  local function show(ns)
    local buffer = ffi.new "char[32]"
    return ffi.string(lib.value_format_duration(ns, buffer, 32))
  end

  it("reads as people write it", function()
    for ns, text in pairs { [0] = "0s", [1] = "1ns", [1500] = "1.5us", [250e6] = "250ms",
      [1.5e6] = "1.5ms", [5e9] = "5s", [2.1e9] = "2.1s", [1.05e9] = "1.05s", [90e9] = "1m30s",
      [3600e9] = "1h", [3601e9] = "1h1s", [5400e9] = "1h30m", [86400e9] = "1d", [90000e9] = "25h",
      [1000000001] = "1.000000001s", [-5e9] = "-5s" } do
      assert.equal(text, show(ns))
    end
  end)

  it("reads back as the same duration", function()
    for _, ns in ipairs { 1LL, 999LL, 1000LL, 1001LL, 999999LL, MS + 1, S - 1, S + 1, M + 1,
      61001001001LL, H - 1, D, D + 1, 3650 * D - 1, 3650 * D } do
      assert.equal(ns, (duration(show(ns))))
    end
  end)

  it("fits in 32 bytes, and is cut in less", function()
    assert.equal("2562047h47m16.854775807s", show(0x7fffffffffffffffLL))
    assert.equal("-2562047h47m16.854775808s", show(-0x7fffffffffffffffLL - 1))
    local buffer = ffi.new "char[8]"
    ffi.fill(buffer, 8, ("#"):byte())
    for room = 0, 7 do
      lib.value_format_duration(90 * M + 30 * S, buffer, room)
      assert.equal(("#"):byte(), buffer[7])
    end
  end)
end)

describe("A time that is shown", function()
  local buffer = ffi.new "char[40]"
  local function show(ns, digits) return ffi.string(lib.value_format_time(ns, digits, buffer, 40)) end

  it("is as of RFC 3339 in UTC, with as many digits of the second as are wanted, none of them rounded", function()
    local ns = 1767323045678999999LL
    assert.equal("2026-01-02T03:04:05Z", show(ns, 0))
    assert.equal("2026-01-02T03:04:05.678Z", show(ns, 3))
    assert.equal("2026-01-02T03:04:05.678999999Z", show(ns, 9))
    assert.equal("1970-01-01T00:00:00.000Z", show(0, 3))
    assert.equal("2262-04-11T23:47:16.854775807Z", show(0x7fffffffffffffffLL, 9))
  end)
end)

describe("A size", function()
  it("is 1024-based, in the units that people write", function()
    each({ ["64KB"] = 65536LL, ["64MB"] = 67108864LL, ["1GB"] = 1073741824LL, ["512B"] = 512LL,
      ["1TB"] = 1099511627776LL, ["2K"] = 2048LL, ["2KiB"] = 2048LL, ["2MiB"] = 2097152LL,
      ["64kb"] = 65536LL, ["1g"] = 1073741824LL, ["0"] = 0LL, ["123"] = 123LL,
      ["1.5KB"] = 1536LL, ["0.5MB"] = 524288LL }, size)
  end)

  it("is refused with the value and the forms that are wanted", function()
    local _, message = size "64 MB"
    assert.equal('"64 MB" is not a size: write "64KB", "64MB", "1GB" or a number of bytes', message)
    refuses(size, { "", "KB", "-1", "64XB", "64MBB", "1.5", "1.5B", "64Mb/s", "1e6", "64KiBB", "5iB",
      "64Ki", "1.KB" }, "is not a size")
  end)

  it("ends where 63 bits end", function()
    assert.equal(9223372036854775807LL, (size "9223372036854775807"))
    refuses(size, { "9223372036854775808", "8388608TB", "99999999999999999999999" },
      "more bytes than a machine can count")
  end)
end)

describe("A subject", function()
  local function check(subject, use)
    local err = units.err()
    local rc = lib.subject_check(subject, #subject, ffi.C["SUBJECT_" .. use], err)
    return rc == 0, ffi.string(err.message)
  end

  it("is tokens with dots between them", function()
    for _, subject in ipairs { "a", "orders.created", "$JS.API.INFO", "_INBOX.x.y", "a-b_c/d", "größe.€", "a:b=c" } do
      assert.is_true(check(subject, "PUBLISH"), subject)
      assert.is_true(check(subject, "SUBSCRIBE"), subject)
    end
  end)

  it("may have wildcards as whole tokens where one subscribes", function()
    for _, subject in ipairs { "*", ">", "a.*", "*.a.*", "a.>", "*.>", "a.*.b" } do
      assert.is_true(check(subject, "SUBSCRIBE"), subject)
    end
  end)

  it("has no wildcards where one publishes", function()
    for _, subject in ipairs { "*", ">", "a.*", "a.>", "*.a", "a.>.b" } do
      local ok, message = check(subject, "PUBLISH")
      assert.is_false(ok, subject)
      assert.equal(('"%s" is not a valid subject: wildcards ("*" and ">") are not allowed here'):format(subject),
        message)
    end
  end)

  it("may have * and > inside a token where one publishes: there they are no wildcards", function()
    for _, subject in ipairs { "a.b*", "a>b", "a*b.c", "**", "a.>>", "*a.b" } do
      assert.is_true(check(subject, "PUBLISH"), subject)
    end
  end)

  it("has no wildcard inside a token, and \">\" only at the end", function()
    for _, subject in ipairs { "a*", "*a", "**", ">>", "a.b>", "a.*>" } do
      assert.matches("a wildcard must be a token of its own", select(2, check(subject, "SUBSCRIBE")))
    end
    for _, subject in ipairs { ">.a", "a.>.b" } do
      assert.matches('">" must be the last token', select(2, check(subject, "SUBSCRIBE")))
    end
  end)

  it("has at most 2000 bytes: the server ends a connection for a longer line", function()
    assert.is_true(check(("a"):rep(2000), "PUBLISH"))
    for _, use in ipairs { "PUBLISH", "SUBSCRIBE" } do
      local ok, message = check(("a"):rep(2001), use)
      assert.is_false(ok)
      assert.matches("is not a valid subject: it is longer than 2000 bytes$", message)
    end
  end)

  it("is not empty and has no empty token", function()
    assert.matches('^"" is not a subject: it is empty', select(2, check("", "PUBLISH")))
    for _, subject in ipairs { ".", ".a", "a.", "a..b", ".." } do
      local ok, message = check(subject, "SUBSCRIBE")
      assert.is_false(ok, subject)
      assert.matches("a token is empty", message)
      assert.is_truthy(message:find('"' .. subject .. '"', 1, true))
    end
  end)

  it("has no white space and no control character", function()
    for _, subject in ipairs { " ", "a b", "a. ", "a\tb", "a\r\nPUB x 0", "a\0b", "a\127" } do
      local ok, message = check(subject, "SUBSCRIBE")
      assert.is_false(ok)
      assert.matches("white space or a control character", message)
      assert.is_nil(message:find "%c")
    end
  end)
end)

describe("A name", function()
  local function check(name)
    local err = units.err()
    return lib.name_check("stream name", name, #name, err) == 0, ffi.string(err.message)
  end

  it("is anything that NATS takes for a stream or a consumer", function()
    for _, name in ipairs { "ORDERS", "a-b_c", "größe", "$x", ("x"):rep(255) } do
      assert.is_true(check(name), name)
    end
  end)

  it("is refused with what it is the name of, and the character that is wrong", function()
    assert.same({ false, '"a.b" is not a valid stream name: "." is not allowed in it' }, { check "a.b" })
    for _, name in ipairs { "a*", "a>", "a/b", "a\\b" } do
      assert.matches("is not allowed in it", select(2, check(name)))
    end
    for _, name in ipairs { "a b", "\t", "a\n", "a\0" } do
      assert.matches("white space or a control character", select(2, check(name)))
    end
    assert.matches("it is empty", select(2, check ""))
    assert.matches("longer than 255 bytes", select(2, check(("x"):rep(256))))
  end)
end)

describe("A pattern", function()
  it("takes the subjects that NATS would deliver to it", function()
    for _, case in ipairs { { "a.b", "a.b" }, { "*", "a" }, { "a.*", "a.b" }, { "*.b", "a.b" }, { ">", "a" },
      { ">", "a.b.c" }, { "a.>", "a.b" }, { "a.>", "a.b.c" }, { "a.*.c", "a.b.c" }, { "*.>", "a.b" },
      { "a.*", "a.*" }, { "a.>", "a.*" } } do
      assert.is_true(lib.subject_matches(case[1], case[2]), case[1] .. " " .. case[2])
    end
  end)

  it("takes no others", function()
    for _, case in ipairs { { "a", "b" }, { "a", "a.b" }, { "a.b", "a" }, { "*", "a.b" }, { "a.*", "a" },
      { "a.*", "a.b.c" }, { "a.>", "a" }, { "*.>", "a" }, { "a.*.c", "a.b.d" }, { "ab", "a" }, { "a", "ab" },
      { "a.b", "a.B" } } do
      assert.is_false(lib.subject_matches(case[1], case[2]), case[1] .. " " .. case[2])
    end
  end)
end)
