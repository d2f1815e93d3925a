local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/cron.h"
units.include "base/zone.h"
local lib = units.lib

local function zone_of(name)
  local err = units.err()
  local zone = lib.zone_open(name, err)
  if zone == nil then return nil, ffi.string(err.message) end
  return ffi.gc(zone, lib.zone_release)
end

local function parse(line)
  local cron, err = ffi.new "struct cron", units.err()
  if lib.cron_parse(line, #line, cron, err) == 0 then return cron end
  return nil, ffi.string(err.message)
end

-- "2026-03-29 02:30:00" as a clock of UTC would show it, in seconds since 1970; and back.
local function seconds(text)
  local y, mo, d, h, mi, s = text:match "(%d+)-(%d+)-(%d+) (%d+):(%d+):?(%d*)"
  local day = tonumber(lib.zone_day_of(tonumber(y), tonumber(mo), tonumber(d)))
  return day * 86400 + h * 3600 + mi * 60 + (tonumber(s) or 0)
end

local function text_of(time)
  local day = math.floor(time / 86400)
  local y, mo, d = ffi.new "int64_t[1]", ffi.new "int[1]", ffi.new "int[1]"
  lib.zone_date_of(day, y, mo, d)
  local rest = time - day * 86400
  return ("%04d-%02d-%02d %02d:%02d:%02d"):format(tonumber(y[0]), mo[0], d[0], math.floor(rest / 3600),
    math.floor(rest / 60) % 60, rest % 60)
end

-- The next times of a line after one of UTC, `count` of them, as texts in UTC.
local function times(line, after, count, zone)
  local cron = assert(parse(line))
  zone = assert(zone_of(zone or "UTC"))
  local list, time = {}, seconds(after)
  for i = 1, count do
    time = tonumber(lib.cron_next(cron, zone, time))
    list[i] = text_of(time)
  end
  return list
end

local function next_of(line, after, zone) return times(line, after, 1, zone)[1] end

local function each_next(after, cases)
  for line, wanted in pairs(cases) do assert.equal(wanted, next_of(line, after), line) end
end

describe("A cron line", function()
  it("has minute, hour, day of month, month and day of week", function()
    -- 2026-01-01 is a Thursday.
    each_next("2026-01-01 00:00:00", {
      ["* * * * *"] = "2026-01-01 00:01:00", ["30 * * * *"] = "2026-01-01 00:30:00",
      ["0 3 * * *"] = "2026-01-01 03:00:00", ["0 0 * * *"] = "2026-01-02 00:00:00",
      ["0 0 15 * *"] = "2026-01-15 00:00:00", ["0 0 31 4-5 *"] = "2026-05-31 00:00:00",
      ["5 4 * * sun"] = "2026-01-04 04:05:00", ["5 4 * * 0"] = "2026-01-04 04:05:00",
      ["5 4 * * 7"] = "2026-01-04 04:05:00", ["0 12 * DEC Mon-Fri"] = "2026-12-01 12:00:00",
      ["0 0 ? * 5"] = "2026-01-02 00:00:00", ["0 0 1 * ?"] = "2026-02-01 00:00:00",
      ["0 22 * * 1-5"] = "2026-01-01 22:00:00", ["0 0 29 2 *"] = "2028-02-29 00:00:00",
      [" 0\t0  1 1 * "] = "2027-01-01 00:00:00",
    })
  end)

  it("may have seconds before them", function()
    each_next("2026-01-01 00:00:00", {
      ["* * * * * *"] = "2026-01-01 00:00:01", ["*/15 * * * * *"] = "2026-01-01 00:00:15",
      ["5 0 0 1 1 *"] = "2026-01-01 00:00:05", ["0 30 3 * * *"] = "2026-01-01 03:30:00",
    })
  end)

  it("has lists, ranges and steps", function()
    assert.same({ "2026-01-01 00:05:00", "2026-01-01 00:20:00", "2026-01-01 00:21:00", "2026-01-01 00:22:00",
      "2026-01-01 00:50:00", "2026-01-01 01:05:00" }, times("5,20-22,50 * * * *", "2026-01-01 00:00", 6))
    assert.same({ "2026-01-01 00:10:00", "2026-01-01 00:30:00", "2026-01-01 00:50:00", "2026-01-01 01:10:00" },
      times("10/20 * * * *", "2026-01-01 00:00", 4))
    assert.same({ "2026-01-01 09:00:00", "2026-01-01 12:00:00", "2026-01-01 15:00:00", "2026-01-02 09:00:00" },
      times("0 9-17/3 * * *", "2026-01-01 00:00", 4))
    assert.same({ "2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00", "2026-01-09 00:00:00" },
      times("0 0 * * 5-7", "2026-01-01 00:00", 4))
  end)

  it("comes on either day when both are restricted, and on both when one begins with *", function()
    assert.same({ "2026-01-05 00:00:00", "2026-01-12 00:00:00", "2026-01-13 00:00:00", "2026-01-19 00:00:00" },
      times("0 0 13 * mon", "2026-01-01 00:00", 4))
    assert.same({ "2026-01-05 00:00:00", "2026-01-19 00:00:00", "2026-02-09 00:00:00" },
      times("0 0 */2 * mon", "2026-01-01 00:00", 3))
  end)

  it("has names", function()
    each_next("2026-01-01 00:00:00", {
      ["@yearly"] = "2027-01-01 00:00:00", ["@annually"] = "2027-01-01 00:00:00",
      ["@monthly"] = "2026-02-01 00:00:00", ["@weekly"] = "2026-01-04 00:00:00",
      ["@daily"] = "2026-01-02 00:00:00", ["@midnight"] = "2026-01-02 00:00:00",
      ["@hourly"] = "2026-01-01 01:00:00", ["@every 5m"] = "2026-01-01 00:05:00",
      ["@every 1h30m"] = "2026-01-01 01:30:00",
    })
    assert.equal("2026-01-01 00:05:00", next_of("@every 5m", "2026-01-01 00:04:59"))
    assert.equal("1969-12-31 23:55:00", next_of("@every 5m", "1969-12-31 23:50:00"))
  end)

  it("comes after a time, never at it", function()
    assert.equal("2026-01-02 03:00:00", next_of("0 3 * * *", "2026-01-01 03:00:00"))
    assert.equal("2026-01-01 03:00:00", next_of("0 3 * * *", "2026-01-01 02:59:59"))
  end)

  it("is refused with the name of the field that is wrong", function()
    for line, wanted in pairs {
      ["60 * * * *"] = 'minute: "60" is not within 0 to 59',
      ["* 24 * * *"] = 'hour: "24" is not within 0 to 23',
      ["* * 0 * *"] = 'day of month: "0" is not within 1 to 31',
      ["* * * 13 *"] = 'month: "13" is not within 1 to 12, and no name of three letters',
      ["* * * janu *"] = 'month: "janu" is not within',
      ["* * * * 8"] = 'day of week: "8" is not within 0 to 7',
      ["61 * * * * *"] = 'second: "61" is not within 0 to 59',
      ["5-1 * * * *"] = 'minute: "5-1" ends before it begins',
      ["5- * * * *"] = 'minute: "5-" is a range without a valid end',
      ["*/0 * * * *"] = 'minute: "*/0" has no valid step',
      ["*/ * * * *"] = 'minute: "*/" has no valid step',
      ["*/61 * * * *"] = 'minute: "*/61" has no valid step',
      ["1,,2 * * * *"] = 'minute: "1,,2" has nothing between two commas',
      ["1, * * * *"] = "nothing between two commas, or at an end",
      ["** * * * *"] = "is neither a value, a range nor a step",
      ["1-2-3 * * * *"] = "is neither a value, a range nor a step",
      ["? * * * *"] = 'minute: "?" is not within',
      ["* * L * *"] = 'day of month: "L" is not within',
      ["* * * * 5#2"] = "is neither a value, a range nor a step",
      ["-1 * * * *"] = 'minute: "-1" is not within',
      ["99999999999 * * * *"] = "is not within",
      ["* * * *"] = "it has 4 fields: a line has 5",
      ["*"] = "it has 1 field: a line has 5",
      ["* * * * * * *"] = "it has 7 fields: a line has 5",
      ["@reboot"] = 'what runs at the start is bus.on("start")',
      ["@often"] = 'there are @yearly',
      ["@every"] = "there are @yearly",
      ["@every soon"] = "@every: ",
      ["@every 1500ms"] = '"1500ms" is not a whole number of seconds',
      ["@every 0s"] = '"0s" is not a whole number of seconds',
      ["TZ=UTC * * * * *"] = "the option tz",
      ["CRON_TZ=UTC * * * * *"] = "the option tz",
      [""] = "it is empty", ["  "] = "it is empty",
      ["*\n* * * *"] = "a character that no line has", ["ü * * * *"] = "a character that no line has",
      [("1,"):rep(200) .. "1 * * * *"] = "longer than 200 bytes",
    } do
      local cron, message = parse(line)
      assert.is_nil(cron, line)
      assert.truthy(message:find(wanted, 1, true), line .. ": " .. message)
      assert.matches("^cron line", message)
    end
  end)

  it("is refused when it never comes", function()
    for _, line in ipairs { "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 ?" } do
      local cron, message = parse(line)
      assert.is_nil(cron, line)
      assert.matches("it never comes", message)
    end
    assert.truthy(parse "0 0 30 2 mon")
    assert.truthy(parse "0 0 29 2 *")
  end)

  it("gives the last time up to a moment", function()
    local zone = zone_of "Europe/Berlin"
    local function last(line, after, upto)
      local time = lib.cron_last(assert(parse(line)), zone, seconds(after), seconds(upto))
      return time < 2 ^ 60 and text_of(tonumber(time)) or nil
    end
    assert.equal("2026-01-05 02:00:00", last("0 3 * * *", "2026-01-01 00:00", "2026-01-06 01:59:59"))
    assert.equal("2026-01-06 02:00:00", last("0 3 * * *", "2026-01-01 00:00", "2026-01-06 02:00:00"))
    assert.equal("2026-01-06 02:00:07", last("* * * * * *", "2026-01-01 00:00", "2026-01-06 02:00:07"))
    assert.equal("2024-02-28 23:00:00", last("0 0 29 2 *", "2020-01-01 00:00", "2026-01-06 02:00:00"))
    assert.is_nil(last("0 3 * * *", "2026-01-06 02:00:00", "2026-01-06 22:00:00"))
    assert.is_nil(last("0 0 1 1 *", "2026-01-01 00:00", "2026-12-06 22:00:00"))
  end)

  it("is written as NATS has it", function()
    local function format(line)
      local room = ffi.new "char[600]"
      return lib.cron_format(assert(parse(line)), room, 600) and ffi.string(room) or nil
    end
    assert.equal("0 30 2 * * *", format "30 2 * * *")
    assert.equal("0 0 0 * 1,2 1,2,3,4,5", format "0 0 * jan,feb mon-fri")
    assert.equal("0 0 0 13 * 5", format "0 0 13 * fri")
    assert.equal("* * * * * *", format "* * * * * *")
    assert.equal("0 0,20,40 * * * 0", format "*/20 * * * 7")
    assert.equal("@every 5m", format "@every 300s")
    assert.is_nil(format "0 0 */2 * mon")
    assert.equal("0 0 0 1,11,21,31 * *", format "0 0 */10 * *")
    assert.equal("0 0 0 1,2,3 * 0,1,2,3,4,5,6", format "0 0 1-3 * 0-6")
  end)
end)

describe("A cron line where clocks are changed", function()
  it("comes at its time on the clock, in summer and in winter", function()
    assert.equal("2026-01-01 02:00:00", next_of("0 3 * * *", "2026-01-01 00:00", "Europe/Berlin"))
    assert.equal("2026-07-01 01:00:00", next_of("0 3 * * *", "2026-07-01 00:00", "Europe/Berlin"))
    assert.equal("2026-07-01 07:00:00", next_of("0 3 * * *", "2026-07-01 00:00", "America/New_York"))
    assert.equal("2026-06-30 21:15:00", next_of("0 3 * * *", "2026-06-30 20:00", "Asia/Kathmandu"))
  end)

  it("with a fixed time that is left out, comes at the first moment after", function()
    -- Berlin, 2026-03-29: 02:00 becomes 03:00, at 01:00 UTC.
    assert.same({ "2026-03-28 01:30:00", "2026-03-29 01:00:00", "2026-03-30 00:30:00" },
      times("30 2 * * *", "2026-03-28 00:00", 3, "Europe/Berlin"))
    -- Several in the gap are one.
    assert.same({ "2026-03-29 01:00:00", "2026-03-30 00:10:00" },
      times("10,30 2 * * *", "2026-03-29 00:00", 2, "Europe/Berlin"))
    assert.same({ "2026-03-29 01:00:00", "2026-03-30 00:30:00" },
      times("* 30 2 * * *", "2026-03-29 00:00", 2, "Europe/Berlin"), "seconds do not make it go by the clock")
    -- What comes at that moment anyway comes once.
    assert.same({ "2026-03-29 01:00:00", "2026-03-30 00:00:00" },
      times("0 2,3 * * *", "2026-03-29 00:59", 2, "Europe/Berlin"))
    -- New York, 2026-03-08: 02:00 becomes 03:00, at 07:00 UTC. Lord Howe: by half an hour.
    assert.equal("2026-03-08 07:00:00", next_of("30 2 * * *", "2026-03-08 00:00", "America/New_York"))
    assert.equal("2026-10-03 15:30:00", next_of("15 2 * * *", "2026-10-03 15:00", "Australia/Lord_Howe"))
    -- A day that another rule leaves out is left out here, too.
    assert.equal("2026-03-30 00:30:00", next_of("30 2 30 * *", "2026-03-28 00:00", "Europe/Berlin"))
  end)

  it("with a fixed time that comes twice, comes the first time only", function()
    -- Berlin, 2026-10-25: 03:00 becomes 02:00, at 01:00 UTC.
    assert.same({ "2026-10-24 00:30:00", "2026-10-25 00:30:00", "2026-10-26 01:30:00" },
      times("30 2 * * *", "2026-10-24 00:00", 3, "Europe/Berlin"))
    assert.equal("2026-10-26 01:30:00", next_of("30 2 * * *", "2026-10-25 01:05", "Europe/Berlin"))
    assert.same({ "2026-10-25 00:00:00", "2026-10-25 02:00:00" },
      times("0 2,3 * * *", "2026-10-24 22:00", 2, "Europe/Berlin"))
    assert.same({ "2026-11-01 05:30:00", "2026-11-02 06:30:00" },
      times("30 1 * * *", "2026-11-01 00:00", 2, "America/New_York"))
  end)

  it("goes by the clock as it is where minutes or hours begin with *", function()
    assert.same({ "2026-03-29 00:50:00", "2026-03-29 01:00:00", "2026-03-29 01:10:00" },
      times("*/10 * * * *", "2026-03-29 00:40", 3, "Europe/Berlin"))
    assert.equal("2026-03-30 00:00:00", next_of("*/10 2 * * *", "2026-03-29 00:40", "Europe/Berlin"))
    assert.same({ "2026-10-25 00:00:00", "2026-10-25 00:30:00", "2026-10-25 01:00:00", "2026-10-25 01:30:00",
      "2026-10-26 01:00:00" }, times("*/30 2 * * *", "2026-10-24 22:00", 5, "Europe/Berlin"))
    assert.same({ "2026-10-25 00:00:00", "2026-10-25 01:00:00", "2026-10-25 02:00:00" },
      times("@hourly", "2026-10-24 23:00", 3, "Europe/Berlin"))
  end)

  it("counts a zone's rule beyond its table", function()
    assert.equal("2150-07-01 01:00:00", next_of("0 3 * * *", "2150-07-01 00:00", "Europe/Berlin"))
    assert.equal("2150-01-01 02:00:00", next_of("0 3 * * *", "2150-01-01 00:00", "Europe/Berlin"))
  end)

  it("has every moment once: what is looked for from any second is the same", function()
    local zone, cron = zone_of "Europe/Berlin", parse "17,40 1-3 * * *"
    for _, day in ipairs { "2026-03-29 00:00", "2026-10-24 22:00" } do
      local start, seen = seconds(day), {}
      for time = start, start + 5 * 3600, 61 do
        seen[tonumber(lib.cron_next(cron, zone, time))] = true
      end
      local time, count = start, 0
      while time < start + 5 * 3600 do
        time = tonumber(lib.cron_next(cron, zone, time))
        count = count + 1
        assert.is_true(seen[time], text_of(time))
      end
      local total = 0
      for _ in pairs(seen) do total = total + 1 end
      assert.equal(count, total)
    end
  end)
end)

describe("A time zone", function()
  it("is refused when its name leaves the folder of zones, or is none", function()
    for _, name in ipairs { "../../etc/passwd", "/etc/passwd", "Europe/../../../../etc/passwd", "Europe/", "",
      ".", "..", "Europe//Berlin", "Europe/Berlin\n", "Euro pe", "a\0b", ("x"):rep(70), "Europe/.Berlin" } do
      local zone, message = zone_of(name)
      assert.is_nil(zone, name)
      assert.matches("time zone", message)
    end
    assert.matches('there is no time zone "Europe/Atlantis": names are those of IANA',
      select(2, zone_of "Europe/Atlantis"))
    assert.is_nil((zone_of "Europe"))
    assert.is_nil((zone_of "tzdata.zi"))
  end)

  it("may be the machine's, or UTC, which needs no file", function()
    assert.truthy(zone_of "local")
    assert.equal(0, tonumber(lib.zone_span_at(zone_of "UTC", 0).offset))
  end)

  it("agrees with the C library on every zone of the system", function()
    local names = { "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca",
      "Europe/Dublin", "Pacific/Apia", "America/Sao_Paulo", "Asia/Tehran", "America/Nuuk" }
    for _, name in ipairs(names) do
      local pipe = assert(io.popen(("for t in 0 100000000 700000000 1300000000 1774746000 1792890000 2500000000 "
        .. "4000000000 5000000000; do TZ=%s date -d @$t +%%z; done"):format(name)))
      local zone = assert(zone_of(name))
      for _, time in ipairs { 0, 100000000, 700000000, 1300000000, 1774746000, 1792890000, 2500000000, 4000000000,
        5000000000 } do
        local sign, h, m = pipe:read "*l":match "([+-])(%d%d)(%d%d)"
        local offset = (h * 3600 + m * 60) * (sign == "-" and -1 or 1)
        local ours = tonumber(lib.zone_span_at(zone, time).offset)
        assert.equal(offset, ours - ours % 60, name .. " " .. time)
      end
      pipe:close()
    end
  end)

  it("is read from its bytes, whatever they are", function()
    local file = assert(io.open("/usr/share/zoneinfo/Europe/Berlin", "rb"))
    local bytes = file:read "*a"
    file:close()
    local err = units.err()
    local function try(text)
      local zone = lib.zone_parse("try", text, #text, err)
      if zone ~= nil then
        lib.zone_span_at(zone, 1e9)
        lib.zone_release(zone)
      end
      return zone ~= nil
    end
    assert.is_true(try(bytes))
    for len = 0, #bytes - 1, 7 do assert.is_false(try(bytes:sub(1, len))) end
    math.randomseed(7)
    for _ = 1, 3000 do
      local place = math.random(#bytes)
      try(bytes:sub(1, place - 1) .. string.char(math.random(0, 255)) .. bytes:sub(place + 1))
    end
  end)
end)
