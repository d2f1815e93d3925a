local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/link/parse.h"
local lib = units.lib

local KINDS = {}
for _, name in ipairs { "MORE", "MESSAGE", "INFO", "ERR", "OK", "PING", "PONG", "BROKEN" } do
  KINDS[lib["PARSE_" .. name]] = name:lower()
end

local function text_of(span) return span.at ~= nil and ffi.string(span.at, span.len) or nil end

local function show(at, parsed)
  local kind = KINDS[tonumber(parsed.kind)]
  if kind == "broken" then return "broken: " .. ffi.string(parsed.why) end
  if kind ~= "message" then return (ffi.string(at, parsed.len):gsub("\r\n$", "")) end
  return ("%s %d %s [%s] %s"):format(text_of(parsed.subject), tonumber(parsed.sid), text_of(parsed.reply) or "-",
    text_of(parsed.headers) or "-", text_of(parsed.data))
end

-- What a reader makes of pieces that come one after the other: each in a block of its own length, so
-- that AddressSanitizer sees who looks further.
local function read(pieces)
  local got, rest, wanted, seen = {}, "", 0, 0
  local parsed = ffi.new "struct parsed"
  for _, piece in ipairs(pieces) do
    rest = rest .. piece
    while #rest > 0 and #rest >= wanted do
      local block = ffi.new("char[?]", #rest)
      ffi.copy(block, rest, #rest)
      lib.parse_next(block, #rest, seen, parsed)
      if parsed.kind == lib.PARSE_MORE then
        assert(parsed.len > #rest, "what is there would be enough")
        wanted, seen = tonumber(parsed.len), tonumber(parsed.seen)
        break
      end
      got[#got + 1] = show(block, parsed)
      if parsed.kind == lib.PARSE_BROKEN then return got end
      rest, wanted, seen = rest:sub(tonumber(parsed.len) + 1), 0, 0
    end
  end
  return got, rest
end

local function cut(text)
  local pieces, at = {}, 1
  while at <= #text do
    local to = at + math.random(0, 2) * math.random(0, 20)
    pieces[#pieces + 1] = text:sub(at, to)
    at = to + 1
  end
  return pieces
end

local STREAM = table.concat {
  'INFO {"server_id":"x","headers":true}\r\n', "PING\r\n", "+OK\r\n", "MSG a.b 1 5\r\nhello\r\n",
  "MSG a.b 12 _INBOX.x.1 0\r\n\r\n", "MSG a.b 3 2\r\n\r\n\r\n", "PONG\r\n",
  "HMSG h 4 22 22\r\nNATS/1.0 503\r\nA: b\r\n\r\n\r\n", "HMSG h 4 r.s 18 21\r\nNATS/1.0\r\nA: b\r\n\r\nxyz\r\n",
  "-ERR 'Permissions Violation for Publish to \"a.b\"'\r\n", "msg\tlow  9\t3 \r\nabc\r\n", "ping\r\n",
  "MSG n 7 11\r\nMSG a 1 1\r\n\r\n", "PING\n",
}

local READ = {
  'INFO {"server_id":"x","headers":true}', "PING", "+OK", "a.b 1 - [-] hello", "a.b 12 _INBOX.x.1 [-] ",
  "a.b 3 - [-] \r\n", "PONG", "h 4 - [NATS/1.0 503\r\nA: b\r\n\r\n] ", "h 4 r.s [NATS/1.0\r\nA: b\r\n\r\n] xyz",
  "-ERR 'Permissions Violation for Publish to \"a.b\"'", "low 9 - [-] abc", "ping", "n 7 - [-] MSG a 1 1\r\n",
  "PING\n",
}

describe("what a server sends", function()
  it("is read as it comes", function()
    local got, rest = read { STREAM }
    assert.same(READ, got)
    assert.equal("", rest)
  end)

  it("is read however the network cuts it", function()
    for _ = 1, 500 do assert.same(READ, (read(cut(STREAM)))) end
    local bytes = {}
    for at = 1, #STREAM do bytes[at] = STREAM:sub(at, at) end
    assert.same(READ, (read(bytes)))
  end)

  it("has words of any length, between blanks of either kind", function()
    for len = 1, 40 do
      local subject, reply = ("s"):rep(len), ("r"):rep(41 - len)
      for _, blank in ipairs { " ", "\t", " \t", "\t ", "  ", "\t\t" } do
        assert.same({ subject .. " 12 " .. reply .. " [-] abc", subject .. " 7 - [-] " },
          (read { "MSG" .. blank .. subject .. blank .. "12" .. blank .. reply .. blank .. "3\r\nabc\r\n"
            .. "MSG " .. subject .. blank .. "7" .. blank .. "0" .. blank .. "\r\n\r\n" }))
      end
    end
  end)

  it("waits for what is missing, and knows how much that is", function()
    local parsed = ffi.new "struct parsed"
    lib.parse_next("MSG a 1 1000\r\nabc", 17, 0, parsed)
    assert.equal(lib.PARSE_MORE, parsed.kind)
    assert.equal(14 + 1000 + 2, tonumber(parsed.len))
    lib.parse_next("MSG a 1 10", 10, 0, parsed)
    assert.equal(11, tonumber(parsed.len))
    assert.equal(10, tonumber(parsed.seen))
  end)

  for what, text in pairs {
    ["an operation that is none"] = "HTTP/1.1 400 Bad Request\r\n",
    ["an empty line"] = "\r\n",
    ["a word that begins like another"] = "MSGS a 1 1\r\nx\r\n",
    ["a message without a length"] = "MSG a 1\r\n",
    ["a message without a number"] = "MSG a x 1\r\nx\r\n",
    ["a message with too many words"] = "MSG a 1 b c 1\r\nx\r\n",
    ["a negative length"] = "MSG a 1 -1\r\n\r\n",
    ["a length of too many digits"] = "MSG a 1 0000000000000000001\r\nx\r\n",
    ["a length that nobody has"] = "MSG a 1 999999999\r\n",
    ["headers that are longer than all of it"] = "HMSG a 1 20 10\r\n",
    ["a message that is longer than it says"] = "MSG a 1 1\r\nxy\r\n",
    ["a message that ends with a line feed alone"] = "MSG a 1 1\r\nx\n\n",
  } do
    it("is not NATS with " .. what, function()
      for _, pieces in ipairs { { "PING\r\n" .. text }, cut("PING\r\n" .. text) } do
        local got = read(pieces)
        assert.equal("PING", got[1])
        assert.equal("broken", got[2] and got[2]:match "^broken")
        assert.is_nil(got[3])
      end
    end)
  end

  it("has lines of a bounded length, whether they end or not", function()
    local most = 1048576
    local line = "INFO " .. ("x"):rep(most - 7) .. "\r\n"
    assert.same({ line:sub(1, -3) }, (read { line }))
    assert.same({ "broken: a line without an end" }, (read { "INFO " .. ("x"):rep(most) }))
    assert.same({ "broken: a line without an end" }, (read { "INFO " .. ("x"):rep(most) .. "\r\n" }))
  end)
end)
