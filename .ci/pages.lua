-- The rules for what the pages name: each is a function of a tree and of .ci/house.lua, and complains of
-- what is not there. spec/unit/names_spec.lua shows each of them a tree that breaks it.
--
-- A tree: { text = { ["docs/GUIDE.md"] = "..." } }, of all files. A rule has nothing to say where the code
-- is missing that it compares with.
local pages = {}

-- Each rule says complain(path, at, format, ...): `at` is a place in the text, or nil.

local function begins(text, start) return text:sub(1, #start) == start end

local function sorted(map)
  local list = {}
  for key in pairs(map) do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- Without its fenced blocks, in which nothing is a link or a name; the rest keeps its place.
local function prose(text)
  return (("\n" .. text):gsub("\n```.-\n```", function(block) return (block:gsub("[^\n]", " ")) end):sub(2))
end

local function is_document(path) return path:find "^[^/]+%.md$" or path:find "^docs/.*%.md$" end

-- Those for people who change the host.
local function is_about_the_host(path)
  return path == "CONTRIBUTING.md" or path == "docs/ARCHITECTURE.md" or path:find "^docs/internals/.*%.md$"
end

local function each_page(tree, wanted)
  local paths = {}
  for path in pairs(tree.text) do
    if wanted(path) then paths[path] = true end
  end
  local list, index = sorted(paths), 0
  return function()
    index = index + 1
    if list[index] then return list[index], prose(tree.text[list[index]]) end
  end
end

-- All paths of files and folders; cached.
local function there(tree)
  if not tree.there then
    tree.there = {}
    for path in pairs(tree.text) do
      repeat
        tree.there[path] = true
        path = path:match "^(.*)/"
      until not path
    end
  end
  return tree.there
end

-- --- links and files --------------------------------------------------------------------------

-- The anchors of a document, as GitHub makes them of its headings, and those that it states.
local function anchors(text)
  local list = {}
  text = "\n" .. prose(text)
  for heading in text:gmatch "\n#+ ([^\n]+)" do
    list[heading:lower():gsub("[^%w%-_ \128-\255]", ""):gsub(" ", "-")] = true
  end
  for name in text:gmatch '<a id="([^"]+)">' do list[name] = true end
  return list
end

-- "docs/a.md" and "../b.md" are "b.md".
local function resolve(from, target)
  local path = (from:match "^(.*/)" or "") .. target
  local found
  repeat path, found = path:gsub("[^/]+/%.%./", "", 1) until found == 0
  return (path:gsub("/$", ""))
end

function pages.links(tree, _, complain)
  for path, text in each_page(tree, is_document) do
    for at, target in text:gmatch "()%]%(([^)%s]+)%)" do
      local file, anchor = target:match "^([^#]*)#?(.*)$"
      file = file == "" and path or resolve(path, file)
      local is_elsewhere = target:find "^%a+:"
      if not is_elsewhere and not there(tree)[file] then
        complain(path, at, "the link %s leads to no file", target)
      elseif not is_elsewhere and anchor ~= "" and not anchors(tree.text[file] or "")[anchor] then
        complain(path, at, "the link %s leads to no heading", target)
      end
    end
  end
end

function pages.index(tree, _, complain)
  for path in each_page(tree, function(path) return path:find "^docs/%u[%u%-]+%.md$" end) do
    if path ~= "docs/HANDLERS.md" and not (tree.text["README.md"] or ""):find(path, 1, true) then
      complain("README.md", nil, "does not lead to %s", path)
    end
  end
end

-- The folders of the tree by their last names: `sched/` is one of a floor's.
local function folder_names(tree)
  local names = {}
  for path in pairs(there(tree)) do
    if not tree.text[path] then names[path:match "[^/]*$"] = true end
  end
  return names
end

function pages.files(tree, _, complain)
  local is, folders = there(tree), folder_names(tree)
  for path, text in each_page(tree, is_about_the_host) do
    for at, name in text:gmatch "()`([%w_%.%-]+/[%w_/%.%-]*)`" do
      local plain = name:gsub("/$", "")
      if not (is[plain] or is["host/" .. plain] or is["host/" .. plain .. ".c"] or folders[plain]
        or begins(name, "build") or name:find "NAME") then
        complain(path, at, "there is no %s", name)
      end
    end
  end
end

-- --- names ------------------------------------------------------------------------------------

local SOURCES = { "host/", "lua/", "fuzz/", "bench/", "spec/", ".ci/", "examples/", "Makefile", "CMakeLists.txt" }
-- What they say of documents, names of this rule's own, and what is no code.
local NO_SOURCES = { "/names_spec%.lua$", "/docs_spec%.lua$", "^%.ci/pages%.lua$", "/node_modules/", "/corpus/" }

local function is_source(path)
  for _, pattern in ipairs(NO_SOURCES) do
    if path:find(pattern) then return false end
  end
  for _, start in ipairs(SOURCES) do
    if begins(path, start) then return true end
  end
  return false
end

-- Whatever is a word in the code, a part of one, or the name of a file, and in what builds and tests it.
local function words_of_the_code(tree)
  local words = {}
  for path, text in pairs(tree.text) do
    for word in (is_source(path) and text or ""):gmatch "[%a_][%w_]*" do
      if not words[word] then
        words[word] = true
        for part in word:gmatch "%a+" do words[part] = true end
      end
    end
    local file = path:match "[^/]+$"
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
  if name:find "^[%w_]+%.lua$" or name:find "^[%w_]+%.[ch]$" then return { name } end
  if kind == "struct" or kind == "enum" then return { tag } end
  if not name:find "^[%a_][%w_]*$" and not name:find "^[%a_][%w_]*%.[%a_][%w_]*$" then return list end
  for word in name:gmatch "[%w_]+" do list[#list + 1] = word end
  return list
end

function pages.names(tree, _, complain)
  local words = words_of_the_code(tree)
  for path, text in each_page(tree, is_about_the_host) do
    text = text:gsub("(\n## Words we do not use)(.-)(\n## )", function(heading, unused, next_one)
      return heading .. unused:gsub("[^\n]", " ") .. next_one
    end)
    for at, name in text:gmatch "()`([^`\n]+)`" do
      for _, word in ipairs(words_of(name)) do
        if not words[word] then complain(path, at, "nothing in the code is called %s", name) end
      end
    end
  end
end

local MAP = "docs/internals/map.md"

function pages.map(tree, _, complain)
  local units, map = {}, tree.text[MAP] or ""
  for path in pairs(tree.text) do
    local unit = path:match "^host/.-([%w_]+)%.[ch]$"
    if unit and not unit:find "_private$" then units[unit] = path:gsub("%.[ch]$", "") end
  end
  for _, unit in ipairs(sorted(units)) do
    if not map:find("`" .. unit .. "`", 1, true) then
      complain(MAP, nil, "%s has no row: | `%s` | what it is |", units[unit], unit)
    end
  end
  for at, unit in map:gmatch "\n()| `([%w_]+)` |" do
    if not units[unit] then complain(MAP, at, "there is no unit %s", unit) end
  end
end

-- --- the floors -------------------------------------------------------------------------------

local ARCHITECTURE = "docs/ARCHITECTURE.md"

-- { "sched", "version" }: the rooms of a floor that are folders.
local function rooms_of(tree, house, floor)
  local list = {}
  for _, room in ipairs(house.rooms[floor] or {}) do
    if there(tree)["host/" .. floor .. "/" .. room] then list[#list + 1] = "`" .. room .. "/`" end
  end
  return table.concat(list, " ")
end

-- The table of floors and the drawing above it have those of .ci/house.lua.
function pages.floors(tree, house, complain)
  if not there(tree)["host/engine"] then return end
  local text = tree.text[ARCHITECTURE] or ""
  local drawing = text:match "\n## Floors and rooms\n.-\n```(.-)\n```" or ""
  for _, floor in ipairs(sorted(house.floors)) do
    local at, rooms = text:match("\n()| `" .. floor .. "/` |[^|]*| ([^|]*) ?|")
    if not at then
      complain(ARCHITECTURE, nil, "the table of floors has no row for `%s/`", floor)
    elseif house.rooms[floor] and rooms:gsub("%s+$", "") ~= rooms_of(tree, house, floor) then
      complain(ARCHITECTURE, at, "the rooms of %s/ are %s", floor, rooms_of(tree, house, floor))
    end
    if not drawing:find("%f[%l]" .. floor .. "%f[^%l]") then
      complain(ARCHITECTURE, nil, "the drawing of floors has no %s", floor)
    end
  end
  for at, floor in text:gmatch "\n()| `(%l+)/` |" do
    if not house.floors[floor] then complain(ARCHITECTURE, at, "there is no floor %s/", floor) end
  end
  for word in drawing:gmatch "%l+" do
    if not house.floors[word] then complain(ARCHITECTURE, nil, "the drawing of floors has %s, which is none", word) end
  end
end

-- --- what users call ------------------------------------------------------------------------

function pages.commands(tree, _, complain)
  local table_of = (tree.text["host/cli/commands.c"] or ""):match "cli_commands%[%].-\n};" or ""
  for name in table_of:gmatch '\n%s*{%s*"([%l-]+)"' do
    if not (tree.text["docs/OPERATING.md"] or ""):find("\nmoonbus " .. name:gsub("%-", "%%-") .. "%f[%s]") then
      complain("docs/OPERATING.md", nil, "the list of commands has no line that begins with: moonbus %s", name)
    end
  end
end

-- The functions of a module, as its file defines them.
local function defined(text)
  local list = {}
  for name in text:gmatch "\nfunction M%.([%l_]+)%(" do list[#list + 1] = name end
  for name in (text:match "\nlocal M = (%b{})" or ""):gmatch "\n  ([%l_]+) = " do list[#list + 1] = name end
  for names in text:gmatch "\n(M%.[%l_]+[^\n=]*) = " do
    for name in names:gmatch "M%.([%l_]+)" do list[#list + 1] = name end
  end
  return list
end

local MODULES = {
  { "bus", "lua/moonbus/init.lua", "lua/library/moonbus.lua", "moonbus" },
  { "js", "lua/moonbus/jetstream.lua", "lua/library/moonbus/jetstream.lua", "moonbus%.jetstream" },
  { "kv", "lua/moonbus/kv.lua", "lua/library/moonbus/kv.lua", "moonbus%.kv" },
  { "objects", "lua/moonbus/objects.lua", "lua/library/moonbus/objects.lua", "moonbus%.objects" },
}

function pages.functions(tree, _, complain)
  local page = tree.text["docs/REFERENCE.md"] or ""
  for _, module in ipairs(MODULES) do
    local prefix, path, library, title = unpack(module)
    local annotations, is = tree.text[library] or "", {}
    local list = page:match("\n(%- %[`" .. title .. "`%][^\n]*)") or ""
    for _, name in ipairs(defined(tree.text[path] or "")) do
      is[name] = true
      if not page:find("\n### [^\n]*%f[%w]" .. prefix .. "%." .. name .. "%f[^%w_]") then
        complain("docs/REFERENCE.md", nil, "there is no heading: ### %s.%s", prefix, name)
      end
      if not list:find("[" .. name .. "](#", 1, true) then
        complain("docs/REFERENCE.md", nil, "the list at its top has no link to %s.%s", prefix, name)
      end
      if not annotations:find("\nfunction " .. prefix .. "%." .. name .. "%(") and
        not annotations:find("\n" .. prefix .. "%." .. name .. " = ") and
        not annotations:find("%-%-%-@field " .. name .. "%f[^%w_]") then
        complain(library, nil, "has no %s.%s", prefix, name)
      end
    end
    for at, name in annotations:gmatch("\n()function " .. prefix .. "%.([%l_]+)%(") do
      if not is[name] then complain(library, at, "there is no %s.%s", prefix, name) end
    end
  end
end

-- --- all of them ------------------------------------------------------------------------------

-- spec/unit/names_spec.lua wants a tree that breaks it of each that stands here.
pages.rules = { "links", "index", "files", "names", "map", "floors", "commands", "functions" }

-- The lines that tell what the pages name and is not there.
function pages.check(tree, house)
  local offences = {}
  for _, rule in ipairs(pages.rules) do
    pages[rule](tree, house, function(path, at, format, ...)
      local line = at and select(2, tree.text[path]:sub(1, at - 1):gsub("\n", "")) + 1
      offences[#offences + 1] = (line and ("%s:%d: "):format(path, line) or path .. ": ") .. format:format(...)
    end)
  end
  return offences
end

return pages
