-- What the documents show works: each script of the guide is served, each line to try is tried, and
-- each command line is one that the program takes.
local host_of = require "spec.support.host"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local DOCUMENTS = {
  "README.md", "CONTRIBUTING.md", "docs/GUIDE.md", "docs/COOKBOOK.md", "docs/REFERENCE.md", "docs/OPERATING.md",
  "docs/DEPLOYING.md", "docs/TROUBLESHOOTING.md", "docs/MIXED-FLEETS.md", "docs/FROM-OPENRESTY.md",
  "docs/FROM-FASTSTREAM.md", "docs/FIRST-PROJECT.md", "docs/TESTING.md",
  "docs/internals/debugging.md",
}

local function text_of(path) return assert(temp.read(path), path) end

-- The fenced blocks of a document: { language =, text = }.
local function fences(document)
  local list = {}
  for language, text in ("\n" .. document):gmatch "\n```([^\n]*)\n(.-)\n```" do
    list[#list + 1] = { language = language, text = text }
  end
  return list
end

-- The arguments of a command line as a shell reads them.
local function moonbus(arguments, folder)
  return process.run { command = { "sh", "-c", host_of.binary() .. " " .. arguments }, folder = folder or "." }
end

describe("The guide", function()
  local w = world.new()
  local host

  setup(function()
    local handlers, files = {}, {}
    for index, fence in ipairs(fences(text_of "docs/GUIDE.md")) do
      local module = fence.text:match "^%-%- (lib/%S+%.lua)"
      if module then
        files[module] = fence.text
      elseif fence.language == "lua" then
        handlers[("piece_%02d.lua"):format(index)] = fence.text
      end
    end
    w.server = { jetstream = false, close = function() end }
    host = w:run { command = "dev", handlers = handlers, files = files, level = false, format = false,
      server = false }
  end)
  teardown(function() w:clear() end)

  it("shows scripts that are served as they are written", function()
    wait.holds(function() return host:running() end, 0.2)
    local complaint = host:stderr():match "[^\n]*ERROR[^\n]*"
    assert.is_nil(complaint)
  end)

  for line in text_of("docs/GUIDE.md"):gmatch "Try it[^\n]+" do
    for arguments in line:gmatch "`moonbus ([^`]+)`" do
      it("says to try what works: moonbus " .. arguments, function()
        local run = moonbus(arguments, host.folder)
        assert.equal(0, run.status, run.stderr)
      end)
    end
  end
end)

describe("The pages for people who come from elsewhere", function()
  local w = world.new()
  after_each(function() w:clear() end)

  for _, path in ipairs { "docs/FROM-OPENRESTY.md", "docs/FROM-FASTSTREAM.md" } do
    it("show handlers that check without a warning: " .. path, function()
      local folder, count = w:folder(), 0
      for _, fence in ipairs(fences(text_of(path))) do
        local name = fence.language == "lua" and fence.text:match "^%-%- (handlers/%S+%.lua)"
        if name then
          temp.write(folder, name, fence.text)
          count = count + 1
        end
      end
      assert.is_true(count > 0)
      local run = moonbus("check --strict handlers", folder)
      assert.equal(0, run.status, run.stdout .. run.stderr)
    end)
  end

  it("name specs that there are", function()
    for spec in text_of("docs/FROM-FASTSTREAM.md"):gmatch "`(spec/[%w_/]+%.lua)`" do
      assert.is_truthy(temp.read(spec), spec)
    end
  end)
end)

describe("The documents", function()
  -- `moonbus ...` in a line of text, and lines of shell that begin with it.
  local function command_lines(document)
    local list, seen = {}, {}
    local function add(line)
      if not seen[line] and not line:find "[%[<|%.]%.*[%]>|%.]" and line ~= "" then
        list[#list + 1], seen[line] = line, true
      end
    end
    for line in document:gmatch "`moonbus (%l[^`\n]*)`" do add(line) end
    for _, fence in ipairs(fences(document)) do
      if fence.language == "sh" then
        for line in ("\n" .. fence.text):gmatch "\n[$ ]*[%w/.-]-moonbus (%l[^\n]*)" do add(line) end
      end
    end
    return list
  end

  for _, path in ipairs(DOCUMENTS) do
    it(path .. " has only command lines that moonbus takes", function()
      for _, line in ipairs(command_lines(text_of(path))) do
        local run = moonbus(line:gsub("%s#.*", "") .. " --help")
        assert.equal(0, run.status, line .. ": " .. run.stderr)
      end
    end)
  end
end)
