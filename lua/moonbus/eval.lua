-- The script that `moonbus eval` serves: it runs a chunk once, as a "start" hook, prints what the chunk
-- returns, and has the host stop. host/cli/eval.c lays this file, the chunk, its name, its arguments,
-- the time that it has and how errors are written into a folder of their own, and looks there for the
-- result afterwards.
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local ffi = require "ffi"

local folder = os.getenv "MOONBUS_EVAL_FOLDER"

local function read(name)
  local file = assert(io.open(folder .. "/" .. name, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function split(text)
  local list = {}
  for item in text:gmatch "([^%z]*)%z" do list[#list + 1] = item end
  return list
end

-- Globals of the chunk's own: writing one is nothing to be warned of.
local function environment()
  local globals = setmetatable({ bus = bus, js = js }, { __index = getfenv(1) })
  globals._G = globals
  function globals.print(...)
    local parts = {}
    for index = 1, select("#", ...) do parts[index] = tostring((select(index, ...))) end
    io.stdout:write(table.concat(parts, "\t"), "\n")
  end
  return globals
end

-- An error; a table with code and message as the log says it.
local function sentence(value)
  local own = tostring(value) -- as an error of the bindings has one
  if type(value) ~= "table" or not own:find "^table: " or rawget(value, "message") == nil then return own end
  local code = rawget(value, "code")
  return (code == nil and "" or tostring(code) .. ": ") .. tostring(rawget(value, "message"))
end

-- A table as JSON, a message as its data, the rest as it is. Nil and why not: JSON does not hold it.
local function shown(value)
  if value == bus.json.null then return "null" end
  if type(value) == "table" then
    local own = tostring(value)
    if not own:find "^table: " then return own end
    local ok, text = pcall(bus.json.encode, value)
    if ok then return text end
    return nil, (sentence(text):gsub("^eval%.lua:%d+: ", ""))
  end
  local ok, data = pcall(function() return value.data end)
  return type(value) ~= "string" and ok and type(data) == "string" and data or tostring(value)
end

-- As the log has its lines. Bytes that are not UTF-8 stand in no JSON.
local function as_json(text)
  local now = bus.now()
  local line = { level = "error", msg = text,
    time = os.date("!%Y-%m-%dT%H:%M:%S", now) .. (".%03dZ"):format(math.floor(now % 1 * 1000)) }
  local ok, encoded = pcall(bus.json.encode, line)
  if ok then return encoded end
  line.msg = text:gsub("[\128-\255]", function(byte) return ("\\x%02x"):format(byte:byte()) end)
  return bus.json.encode(line)
end

local function complain(text)
  io.stdout:flush()
  io.stderr:write(read "format" == "json" and as_json(text) or "moonbus eval: " .. text, "\n")
  return 1
end

local function show(count, ...)
  local texts = {}
  for index = 1, count do
    local text, complaint = shown((select(index, ...)))
    if not text then return complain(complaint) end
    texts[index] = text:sub(-1) == "\n" and text or text .. "\n"
  end
  for index = 1, count do io.stdout:write(texts[index]) end
  return 0
end

-- Without the frames of this file.
local function explain(value)
  local traceback = debug.traceback("", 2):gsub("\n%s*%[C%]: in function 'xpcall'.*$", "")
  return { text = sentence(value) .. traceback }
end

-- What the chunk has returned: nil and something else says why it failed, as a binding's does.
local function judge(ok, ...)
  local count = select("#", ...)
  local first, second = ...
  if not ok then return complain(type(first) == "table" and first.text or tostring(first)) end -- no memory: a string
  if count >= 2 and not first and second ~= nil then
    local reason = sentence(second)
    return complain(reason:find "^table: " and shown(second) or reason)
  end
  return show(count, ...)
end

local function run()
  local chunk, complaint = loadstring(read "chunk", read "name")
  if not chunk then return complain(complaint) end
  setfenv(chunk, environment())
  local arguments = split(read "arguments")
  return judge(xpcall(function() return chunk(unpack(arguments)) end, explain))
end

local function finish(status)
  io.stdout:flush()
  local file = assert(io.open(folder .. "/status", "wb"))
  file:write(status)
  file:close()
  ffi.cdef "int kill(int pid, int signal); int getpid(void);"
  ffi.C.kill(ffi.C.getpid(), 15) -- drains, as for any host
end

bus.on("start", { timeout = read "timeout" }, function() finish(run()) end)
