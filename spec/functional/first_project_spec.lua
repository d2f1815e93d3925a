-- docs/FIRST-PROJECT.md is a transcript: each command in it is run here, in its order, and prints what
-- stands there, but for times, ports and ids.
local host_of = require "spec.support.host"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local PAGE = "docs/FIRST-PROJECT.md"

-- The fields of an object come in any order.
local function sort_fields(object)
  local fields = {}
  for field in object:sub(2, -2):gmatch "[^,]+" do fields[#fields + 1] = field end
  table.sort(fields)
  return "{" .. table.concat(fields, ",") .. "}"
end

local function plain(text)
  return (text:gsub("%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z", "TIME"):gsub(":%d%d%d%d%d%d%d%d%d%d+:", ":STAMP:")
    :gsub("127%.0%.0%.1:%d+", "SERVER"):gsub("last sequence %d+", "last sequence N")
    :gsub("%f[%w][%d.]+m?s of CPU", "CPU"):gsub('{"[^{}]*}', sort_fields))
end

local function fences()
  local list = {}
  for language, text in assert(temp.read(PAGE)):gmatch "\n```(%l*)\n(.-\n)```" do
    list[#list + 1] = { language = language, text = text }
  end
  return list
end

-- { command, what it prints }
local function commands_of(text)
  local list = {}
  for line in text:gmatch "([^\n]*)\n" do
    local command = line:match "^%$ (.*)"
    if command then
      list[#list + 1] = { command, "" }
    else
      list[#list][2] = list[#list][2] .. line .. "\n"
    end
  end
  return list
end

describe("The first project", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local folder, dev, generation, edited

  local function run(command)
    local environment = ("PATH='%s':\"$PATH\""):format(host_of.binary():match "^(.*)/[^/]*$")
    local ended = process.run { command = { "sh", "-c", environment .. " " .. command .. " 2>&1" }, folder = folder }
    return ended.stdout
  end

  -- Lines that begin with "-" or " " are there, and become those that begin with "+" or " ".
  local function edit(diff)
    local before, after = {}, {}
    for mark, line in diff:gmatch "([ +-])([^\n]*\n)" do
      if mark ~= "+" then before[#before + 1] = line end
      if mark ~= "-" then after[#after + 1] = line end
    end
    edited = edited or temp.read(folder .. "/handlers/orders.lua")
    local from, to = edited:find(table.concat(before), 1, true)
    assert.is_truthy(from, diff)
    edited = edited:sub(1, from - 1) .. table.concat(after) .. edited:sub(to + 1)
  end

  local function save()
    temp.write(folder, "handlers/orders.lua", edited)
    edited, generation = nil, generation + 1
    wait.eventually(function()
      return dev:output():find(("INFO +orders.lua: generation %d live"):format(generation)) -- not the greeting's
    end, 20, function() return dev:output() end)
  end

  local function start_dev()
    generation = 1
    dev = w:run { command = "dev", folder = folder, level = false, format = false, server = false,
      args = { "--nats-port", tostring(posix.free_port()) } }
  end

  -- What follows from it comes by itself, a moment later.
  local function try(command, expected)
    local printed
    wait.eventually(function()
      printed = run(command)
      return plain(printed) == plain(expected)
    end, command:find "moonbus sub" and 20 or 0, function()
      return ("%s\n%s\nin place of\n%s"):format(command, plain(printed), plain(expected))
    end)
  end

  it("is the transcript that its page shows", function()
    folder = w:folder()
    local count = 0
    for _, fence in ipairs(fences()) do
      if fence.language == "diff" then edit(fence.text) elseif edited then save() end
      if fence.language == "lua" then temp.write(folder, fence.text:match "^%-%- (%S+)", fence.text) end
      if fence.language == "" then start_dev() end
      for _, each in ipairs(fence.language == "console" and commands_of(fence.text) or {}) do
        local into = each[1]:match "^cd (.*)"
        if into then folder = folder .. "/" .. into else try(each[1], each[2]) end
        count = count + 1
      end
    end
    assert.is_true(count > 10)
    assert.equal(0, dev:stop())
  end)
end)
