-- A headless Chromium, asked through its debugging pipe: what a page shows, and what it does when
-- keys are pressed. browser.found() is nil where there is none; `.ci/deps browser` installs it.
local cjson = require "cjson"
local ffi = require "ffi"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

if not pcall(ffi.typeof, "marker_browser") then
  ffi.cdef [[
    int mkfifo(const char *path, unsigned int mode);
    typedef int marker_browser;
  ]]
end

local C = posix.C
local O_RDWR_CLOEXEC = 2 + 0x80000
local PROGRAMS = { "chromium-headless-shell", "chromium" }

local browser, page = {}, {}
browser.__index, page.__index = browser, page

function browser.found()
  for _, program in ipairs(PROGRAMS) do
    for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
      local file = io.open(folder .. "/" .. program)
      if file then
        file:close()
        return program
      end
    end
  end
end

local function open_fifo(path)
  if ffi.C.mkfifo(path, 384) ~= 0 then posix.error(path) end
  return C.open(path, O_RDWR_CLOEXEC)
end

-- It reads commands from descriptor 3, and writes answers and events to 4; a NUL ends each.
function browser.start()
  local self = setmetatable({ folder = temp.folder(), last = 0, answers = {}, pages = {}, read = {} }, browser)
  self.to = open_fifo(self.folder .. "/to")
  self.from = open_fifo(self.folder .. "/from")
  self.process = process.start {
    command = {
      "sh", "-c", 'exec "$@" 3<to 4>from', "sh", browser.found(), "--headless", "--no-sandbox", "--disable-gpu",
      "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe",
      "--user-data-dir=" .. self.folder .. "/user",
    },
    folder = self.folder, env = { HOME = self.folder },
  }
  return self
end

function browser:stop()
  C.kill(-self.process.pid, posix.signals.KILL) -- with its children, which write to its folder
  self.process:wait(10)
  C.close(self.to)
  C.close(self.from)
  temp.remove(self.folder)
end

-- An answer, or an event of a page.
function browser:take(text)
  local message = cjson.decode(text)
  local of = self.pages[message.sessionId]
  if message.id then
    self.answers[message.id] = message
  elseif of and message.method == "Runtime.exceptionThrown" then
    local details = message.params.exceptionDetails
    table.insert(of.complaints, (details.exception or {}).description or details.text)
  elseif of and message.method == "Log.entryAdded" and message.params.entry.level == "error" then
    table.insert(of.complaints, message.params.entry.text)
  end
end

function browser:pump(seconds)
  local buffer = ffi.new "char[65536]"
  local waiting = ffi.new("struct moonbus_spec_pollfd[1]", { { fd = self.from, events = 1 } })
  if C.poll(waiting, 1, seconds * 1000) ~= 1 then return end
  local text = ffi.string(buffer, C.read(self.from, buffer, 65536))
  for part, ends in text:gmatch "([^%z]*)(%z?)" do
    self.read[#self.read + 1] = part
    if ends ~= "" then
      self:take(table.concat(self.read))
      self.read = {}
    end
  end
end

function browser:ask(method, params, session)
  self.last = self.last + 1
  local id = self.last
  local text = cjson.encode { id = id, method = method, params = params, sessionId = session } .. "\0"
  assert(C.write(self.to, text, #text) == #text)
  wait.eventually(function()
    self:pump(0.05)
    return self.answers[id]
  end, 20, method)
  local answer = self.answers[id]
  self.answers[id] = nil
  if answer.error then error(method .. ": " .. answer.error.message, 2) end
  return answer.result
end

-- A tab. width, height: in pixels.
function browser:open(url, width, height)
  local target = self:ask("Target.createTarget", { url = "about:blank" }).targetId
  local session = self:ask("Target.attachToTarget", { targetId = target, flatten = true }).sessionId
  local tab = setmetatable({ browser = self, target = target, session = session, complaints = {} }, page)
  self.pages[session] = tab
  tab:ask("Runtime.enable")
  tab:ask("Log.enable")
  tab:size(width, height)
  tab:ask("Page.navigate", { url = url })
  return tab
end

function page:ask(method, params)
  return self.browser:ask(method, params or { dummy = cjson.null }, self.session)
end

function page:size(width, height)
  self:ask("Emulation.setDeviceMetricsOverride",
    { width = width, height = height, deviceScaleFactor = 1, mobile = width < 600 })
end

-- prefers-color-scheme: "dark" or "light".
function page:scheme(scheme)
  self:ask("Emulation.setEmulatedMedia", { features = { { name = "prefers-color-scheme", value = scheme } } })
end

-- The value of an expression of JavaScript.
function page:eval(expression)
  local answer = self:ask("Runtime.evaluate", { expression = expression, returnByValue = true })
  if answer.exceptionDetails then error(answer.exceptionDetails.exception.description, 2) end
  return answer.result.value
end

-- What a part shows, by its id.
function page:text(id) return self:eval(("document.getElementById(%q).innerText"):format(id)) end

function page:press(key, code)
  for _, kind in ipairs { "keyDown", "keyUp" } do
    self:ask("Input.dispatchKeyEvent", {
      type = kind, key = key, code = key, windowsVirtualKeyCode = code,
      text = kind == "keyDown" and key == "Enter" and "\r" or nil,
    })
  end
end

-- A PNG of all of it.
function page:picture(path)
  local data = self:ask("Page.captureScreenshot", { captureBeyondViewport = true }).data
  local file = assert(io.popen("base64 -d > '" .. path .. "'", "w"))
  file:write(data)
  file:close()
end

function page:close()
  self.browser:ask("Target.closeTarget", { targetId = self.target })
  self.browser.pages[self.session] = nil
end

return browser
