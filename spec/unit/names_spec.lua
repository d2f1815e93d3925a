-- The documents call things by the names that the code has: identifiers, structs, units, commands,
-- bindings. Files, links and options: spec/unit/docs_spec.lua.
local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function lines_of(command)
  local pipe = io.popen(command)
  local list = {}
  for line in pipe:lines() do list[#list + 1] = line end
  pipe:close()
  return list
end

-- Without its fenced blocks.
local function prose(path)
  return (("\n" .. read(path)):gsub("\n```.-\n```", "\n"))
end

local function pages()
  local list = lines_of "ls docs/internals/*.md"
  list[#list + 1] = "docs/ARCHITECTURE.md"
  list[#list + 1] = "CONTRIBUTING.md"
  return list
end

-- Whatever is a word in the code, a part of one, or the name of a file, and in what builds and tests it;
-- but not in the specs of documents.
local function words_of_the_code()
  local words = {}
  for _, path in ipairs(lines_of("find host lua fuzz bench spec .ci examples Makefile CMakeLists.txt -type f" ..
    " ! -name names_spec.lua ! -name docs_spec.lua ! -path '*/node_modules/*' ! -path '*/corpus/*'")) do
    for word in read(path):gmatch "[%a_][%w_]*" do
      words[word] = true
      for part in word:gmatch "%a+" do words[part] = true end
    end
  end
  for _, path in ipairs(lines_of "git ls-files") do
    local file = path:match "([^/]+)$"
    words[file], words[file:match "^[^.]*"] = true, true
  end
  return words
end

-- What ps and the kernel call it.
local FOREIGN = { IDL = true, TS = true, wchan = true, do_wait = true }

-- The words of a name that have to be in the code: `op_new`, `op_new()`, `struct op`, `op.result`. Nothing
-- of what is no name: a command line, a setting with its value, a pattern.
local function words_of(name)
  local list = {}
  if FOREIGN[name] or name:find "^x_" or name:find "_yours$" then return list end
  name = name:gsub("%(%)$", "")
  local kind, tag = name:match "^(%l+) ([%w_]+)$"
  if name:find "^[%w_]+%.lua$" then return { name } end
  if kind == "struct" or kind == "enum" then return { tag } end
  if not name:find "^[%a_][%w_]*$" and not name:find "^[%a_][%w_]*%.[%a_][%w_]*$" then return list end
  for word in name:gmatch "[%w_]+" do list[#list + 1] = word end
  return list
end

describe("The pages for people who change the host", function()
  local words
  setup(function() words = words_of_the_code() end)

  for _, path in ipairs(pages()) do
    it("call things as the code does: " .. path, function()
      local unknown = {}
      local text = prose(path):gsub("\n## Words we do not use.-\n## ", "\n## ")
      for name in text:gmatch "`([^`\n]+)`" do
        for _, word in ipairs(words_of(name)) do
          if not words[word] then unknown[#unknown + 1] = name end
        end
      end
      assert.same({}, unknown)
    end)
  end

  it("have each unit of the host on their map, and nothing else", function()
    local units, missing, extra = {}, {}, {}
    for _, path in ipairs(lines_of "find host -name '*.[ch]' | sort") do
      local unit = path:match "([%w_]+)%.[ch]$"
      if not unit:find "_private$" and unit ~= "internal" then units[unit] = true end
    end
    local map = read "docs/internals/map.md"
    for unit in pairs(units) do
      if not map:find("`" .. unit .. "`", 1, true) then missing[#missing + 1] = unit end
    end
    for unit in map:gmatch "\n| `([%w_]+)` |" do
      if not units[unit] then extra[#extra + 1] = unit end
    end
    table.sort(missing)
    assert.same({}, missing, "units without a row in docs/internals/map.md")
    assert.same({}, extra, "rows of docs/internals/map.md without a unit")
  end)
end)

describe("The list of commands in OPERATING", function()
  it("is that of the command line", function()
    local documented, known = {}, {}
    for name in read "host/cli/commands.c":match "cli_commands%[%].-\n};":gmatch '\n%s*{%s*"([%l-]+)"' do
      known[#known + 1] = name
    end
    local page = read "docs/OPERATING.md"
    for _, name in ipairs(known) do
      if page:find("\nmoonbus " .. name:gsub("%-", "%%-") .. "%f[%s]") then documented[#documented + 1] = name end
    end
    assert.is_true(#known > 8)
    assert.same(known, documented)
  end)
end)

describe("A function of moonbus", function()
  -- Those of a module, as its file defines them.
  local function defined(path)
    local list = {}
    for name in read(path):gmatch "\nfunction M%.([%l_]+)%(" do list[#list + 1] = name end
    for name in (read(path):match "\nlocal M = (%b{})" or ""):gmatch "\n  ([%l_]+) = " do list[#list + 1] = name end
    for names in read(path):gmatch "\n(M%.[%l_]+[^\n=]*) = " do
      for name in names:gmatch "M%.([%l_]+)" do list[#list + 1] = name end
    end
    return list
  end

  for _, module in ipairs {
    { "bus", "lua/moonbus/init.lua", "lua/library/moonbus.lua" },
    { "js", "lua/moonbus/jetstream.lua", "lua/library/moonbus/jetstream.lua" },
    { "kv", "lua/moonbus/kv.lua", "lua/library/moonbus/kv.lua" },
    { "objects", "lua/moonbus/objects.lua", "lua/library/moonbus/objects.lua" },
  } do
    local prefix, path, library = module[1] .. ".", module[2], module[3]

    it("is described in the reference and for editors: " .. prefix, function()
      local page, annotations, missing = read "docs/REFERENCE.md", read(library), {}
      local names = defined(path)
      local list = assert(page:match("\n(%- %[`" .. path:gsub("^lua/", ""):gsub("/init", ""):gsub("%.lua$", "")
        :gsub("/", "%%.") .. "`%][^\n]*)"), "no list of " .. prefix)
      assert.is_true(#names > 0)
      for _, name in ipairs(names) do
        if not page:find("\n### [^\n]*%f[%w]" .. module[1] .. "%." .. name .. "%f[^%w_]") then
          missing[#missing + 1] = "REFERENCE: " .. prefix .. name
        end
        if not list:find("[" .. name .. "](#", 1, true) then
          missing[#missing + 1] = "REFERENCE, the list at its top: " .. prefix .. name
        end
        if not annotations:find("\nfunction " .. module[1] .. "%." .. name .. "%(") and
          not annotations:find("\n" .. module[1] .. "%." .. name .. " = ") and
          not annotations:find("%-%-%-@field " .. name .. "%f[^%w_]") then
          missing[#missing + 1] = library .. ": " .. prefix .. name
        end
      end
      assert.same({}, missing)
    end)

    it("is one that there is, where it is described for editors: " .. prefix, function()
      local is, missing = {}, {}
      for _, name in ipairs(defined(path)) do is[name] = true end
      for name in read(library):gmatch("\nfunction " .. module[1] .. "%.([%l_]+)%(") do
        if not is[name] then missing[#missing + 1] = prefix .. name end
      end
      assert.same({}, missing)
    end)
  end
end)
