-- Messages with any header block at all, as a client may write it that is not libnats: HPUB over a
-- plain socket.
local ffi = require "ffi"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"

local C = posix.C
local raw = {}

local function read_until(fd, wanted)
  local text, buffer = "", ffi.new "char[4096]"
  local waiting = ffi.new("struct moonbus_spec_pollfd[1]", { { fd = fd, events = 1 } })
  local limit = wait.now() + 5 * wait.slow
  while not text:find(wanted, 1, true) do
    if wait.now() > limit then error("no " .. wanted .. " from the server, but: " .. text, 3) end
    if C.poll(waiting, 1, 100) == 1 then
      local count = tonumber(C.read(fd, buffer, 4096))
      if count <= 0 then error("the server hung up: " .. text, 3) end
      text = text .. ffi.string(buffer, count)
    end
  end
  return text
end

-- lines: of the header block, between the version line and its end ({ "K: v", "Empty:" }), or the
-- whole block as a string. The server has it when this returns.
function raw.publish(server, subject, lines, data, reply)
  local block = type(lines) == "string" and lines or
    "NATS/1.0\r\n" .. table.concat(lines, "\r\n") .. (#lines > 0 and "\r\n" or "") .. "\r\n"
  data = data or ""
  local fd = assert(posix.dial(server.port, ('CONNECT {"verbose":false,"headers":true}\r\n' ..
    "HPUB %s %s%d %d\r\n%s%s\r\nPING\r\n"):format(subject, reply and reply .. " " or "", #block,
    #block + #data, block, data)))
  local answer = read_until(fd, "PONG")
  C.close(fd)
  if answer:find("-ERR", 1, true) then error(answer, 2) end
end

return raw
