-- The rules of the house for host/ and lua/: each is a function of a tree and of .ci/house.lua, and
-- complains of what breaks it. spec/unit/structure_spec.lua shows each of them a tree that does.
--
-- A tree is a sorted list of files { path = "host/base/err.c", text = "..." }.
local rules = {}

-- Each rule says complain(where, line, format, ...): `where` is what .ci/house.lua would list under
-- `still`, `line` may be nil.

-- --- reading C --------------------------------------------------------------------------------

-- The text without comments and strings; what is left stands on the lines where it stood.
local function strip(text)
  local out, position = {}, 1
  local function keep(upto)
    out[#out + 1] = text:sub(position, upto)
  end
  while true do
    local start, _, opening = text:find('(["\'/])', position)
    if not start then break end
    local stop
    if opening == "/" then
      local kind = text:sub(start, start + 1)
      if kind == "/*" then
        stop = select(2, text:find("*/", start + 2, true)) or #text
      elseif kind == "//" then
        stop = (text:find("\n", start, true) or #text + 1) - 1
      end
    else
      stop = start + 1
      while stop <= #text and text:sub(stop, stop) ~= opening do
        stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      end
    end
    keep(stop and start - 1 or start)
    if stop then out[#out + 1] = text:sub(start, stop):gsub("[^\n]", "") end
    position = (stop or start) + 1
  end
  keep(#text)
  return table.concat(out)
end

local function lines_of(text)
  return (text .. (text:sub(-1) == "\n" and "" or "\n")):gmatch "([^\n]*)\n"
end

local function includes_of(file)
  local list, number = {}, 0
  for line in lines_of(file.text) do
    number = number + 1
    local what = line:match "^%s*#%s*include[%l_]*%s*(.*)$" or line:match "^%s*#%s*import%s*(.*)$"
    local quote, name = (what or ""):match '^(["<])([^">]+)[">]'
    if what then list[#list + 1] = { name = name or what, line = number, ours = quote ~= "<" } end
  end
  return list
end

-- "bus/link/link.c" of "host/bus/link/link.c"; nil for what is not in host/.
local function inside(file)
  return file.path:match "^host/(.*%.[ch])$"
end

local function each_c(tree)
  local index = 0
  return function()
    repeat index = index + 1 until not tree[index] or inside(tree[index])
    if tree[index] then return tree[index], inside(tree[index]) end
  end
end

local function each_include(tree)
  return coroutine.wrap(function()
    for file, path in each_c(tree) do
      for _, include in ipairs(includes_of(file)) do coroutine.yield(file, path, include) end
    end
  end)
end

local function holds(list, value)
  for _, item in ipairs(list) do
    if item == value then return true end
  end
  return false
end

local function begins_with_any(text, list)
  for _, start in ipairs(list) do
    if text:sub(1, #start) == start then return true end
  end
  return false
end

local function last_of(name)
  return name:match "[^/]*$"
end

-- --- who includes whom ------------------------------------------------------------------------

-- All rules below know a file by its path from host/. So an include that has another one, as "pull.h" or
-- "../bus/bus.h", would escape them; and so would code in a file that is no header.
function rules.paths(tree, house, complain)
  for file, _, include in each_include(tree) do
    local floor = include.name:match "^(%w+)/"
    if include.ours and not house.floors[floor] or ("/" .. include.name):find "/%.%.?/" then
      complain(file.path, include.line, "%s: an include has the path from host/, as in \"base/err.h\"", include.name)
    elseif not include.name:find "%.h$" then
      complain(file.path, include.line, "%s: only headers are included", include.name)
    end
  end
end

function rules.floors(tree, house, complain)
  for file, path in each_c(tree) do
    local floor = path:match "^(%w+)/"
    if not house.floors[floor] then complain(file.path, nil, "no floor is called %s/", floor or path) end
  end
  for file, path, include in each_include(tree) do
    local floor, other = path:match "^(%w+)/", include.name:match "^(%w+)/"
    local below = house.floors[floor]
    if below and house.floors[other] and floor ~= other and not holds(below, other) then
      complain(file.path, include.line, "%s/ includes %s/, which is no lower floor", floor, other)
    end
  end
end

-- The room of a file, and its place in the order; nil where the floor has none.
local function room_of(house, path)
  local floor, rest = path:match "^(%w+)/(.*)%.[ch]$"
  local rooms = house.rooms[floor]
  if not rooms then return nil end
  local folder, at_root = rest:match "^(.-)/", nil
  for place, room in ipairs(rooms) do
    if room == (folder or rest) then return floor .. "/" .. room, place end
    if room == "*" and not folder then at_root = place end
  end
  return floor .. "/" .. (folder or ""), at_root
end

function rules.rooms(tree, house, complain)
  for file, path in each_c(tree) do
    local room, place = room_of(house, path)
    if room and not place then complain(file.path, nil, "its room has no place in the order of rooms") end
  end
  for file, path, include in each_include(tree) do
    local room, place = room_of(house, path)
    local other, below = room_of(house, include.name)
    local same_floor = path:match "^(%w+)/" == include.name:match "^(%w+)/"
    if same_floor and place and below and below > place then
      complain(file.path, include.line, "%s includes %s, which is no lower room", room, other)
    end
  end
end

function rules.doors(tree, house, complain)
  for file, path, include in each_include(tree) do
    local floor, other = path:match "^(%w+)/", include.name:match "^(%w+)/"
    local door = house.doors[other] and house.doors[other][floor]
    if door and include.name ~= door then
      complain(file.path, include.line, "%s/ sees %s of %s/ alone", floor, door, other)
    end
  end
end

local LUA_HEADERS = { "lua.h", "lauxlib.h", "lualib.h", "luajit.h" }

function rules.lua(tree, house, complain)
  for file, path, include in each_include(tree) do
    local floor = path:match "^(%w+)/"
    if holds(house.without_lua, floor) and holds(LUA_HEADERS, last_of(include.name)) then
      complain(file.path, include.line, "%s/ knows no Lua", floor)
    end
  end
end

function rules.nats(tree, house, complain)
  for file, path, include in each_include(tree) do
    local is_nats = include.name:find "^nats/" or include.name == "nats.h"
    if is_nats and not begins_with_any(path, house.with_nats) then
      complain(file.path, include.line, "nats.c is named in %s alone",
        table.concat(house.with_nats, " and "))
    end
  end
end

-- uthash ends the process when memory is refused, unless it is included as base/table.h does; its arrays,
-- strings and rings do so in any case. Its lists (utlist.h) take no memory.
local UTHASH = { ["uthash.h"] = "hash tables are base/table.h's" }
for _, name in ipairs { "utarray.h", "utringbuffer.h", "utstring.h" } do
  UTHASH[name] = "it ends the process when memory is refused: of uthash there are base/table.h and utlist.h"
end

function rules.uthash(tree, _, complain)
  for file, path, include in each_include(tree) do
    local name = last_of(include.name)
    if UTHASH[name] and not (name == "uthash.h" and path == "base/table.h") then
      complain(file.path, include.line, "%s", UTHASH[name])
    end
  end
end

-- A header that brings cJSON along brings it to all who include that header: it says `struct cJSON;`.
function rules.cjson(tree, _, complain)
  for file, path, include in each_include(tree) do
    if last_of(include.name) == "cJSON.h" and path:match "%.h$" and not path:match "_private%.h$" then
      complain(file.path, include.line, "a header for others says `struct cJSON;` instead")
    end
  end
end

-- x_private.h is for x.c, x_*.c and their headers; that of a folder's first unit for the folder.
function rules.private(tree, _, complain)
  for file, path in each_c(tree) do
    if path:match "internal%.h$" then
      complain(file.path, nil, "a private header is called x_private.h")
    end
  end
  for file, path, include in each_include(tree) do
    local folder, unit = include.name:match "^(.*)/([%w_]+)_private%.h$"
    if unit then
      local own_folder, own = path:match "^(.*)/([%w_]+)%.[ch]$"
      local kin = own == unit or own:sub(1, #unit + 1) == unit .. "_"
      if own_folder ~= folder or not (kin or folder:match "[^/]+$" == unit) then
        complain(file.path, include.line, "%s is for the files of %s/%s alone", include.name, folder, unit)
      end
    end
  end
end

-- x.c and x.h are one unit. graph[unit] = { other units that it includes }
local function graph_of(tree)
  local graph = {}
  for file, path in each_c(tree) do
    local unit = path:match "^(.*)%.[ch]$"
    graph[unit] = graph[unit] or {}
    for _, include in ipairs(includes_of(file)) do
      local other = include.name:match "^(.*)%.h$"
      if other and other:find "/" and other ~= unit then graph[unit][other] = true end
    end
  end
  return graph
end

-- Tarjan's strongly connected components; those of more than one unit, the largest first.
function rules.find_rings(tree)
  local graph = graph_of(tree)
  local rings, stack, on_stack, index, low, count = {}, {}, {}, {}, {}, 0
  local function visit(unit)
    count = count + 1
    index[unit], low[unit] = count, count
    stack[#stack + 1] = unit
    on_stack[unit] = true
    for other in pairs(graph[unit] or {}) do
      if not index[other] then
        visit(other)
        low[unit] = math.min(low[unit], low[other])
      elseif on_stack[other] then
        low[unit] = math.min(low[unit], index[other])
      end
    end
    if low[unit] ~= index[unit] then return end
    local ring = {}
    repeat
      local member = table.remove(stack)
      on_stack[member] = nil
      ring[#ring + 1] = member
    until member == unit
    table.sort(ring)
    if #ring > 1 then rings[#rings + 1] = ring end
  end
  for unit in pairs(graph) do
    if not index[unit] then visit(unit) end
  end
  table.sort(rings, function(a, b) return #a > #b or #a == #b and a[1] < b[1] end)
  return rings
end

function rules.rings(tree, house, complain)
  for _, ring in ipairs(rules.find_rings(tree)) do
    if #ring > house.largest_ring then
      complain(ring[1]:match "^%w+", nil, "%d units include each other in a ring, %d are allowed: %s", #ring,
        house.largest_ring, table.concat(ring, " "))
    end
  end
end

-- --- what stands in a file --------------------------------------------------------------------

function rules.length(tree, house, complain)
  for _, file in ipairs(tree) do
    local _, lines = file.text:gsub("\n", "")
    if lines > house.longest_file then
      complain(file.path, nil, "%d lines, %d are allowed", lines, house.longest_file)
    end
  end
end

-- Of characters, whatever their bytes. clang-format leaves a text that it cannot break well.
function rules.columns(tree, house, complain)
  for file in each_c(tree) do
    local number = 0
    for line in lines_of(file.text) do
      number = number + 1
      local columns = #line:gsub("[\128-\191]", "")
      if columns > house.widest_line then
        complain(file.path, number, "%d columns, %d are allowed", columns, house.widest_line)
      end
    end
  end
end

function rules.opening(tree, _, complain)
  for file, path in each_c(tree) do
    local unit = path:match "([%w_]+)%.h$"
    if unit and file.text:sub(1, #unit + 6) ~= "/* " .. unit .. " - " then
      complain(file.path, 1, "a header opens with its contract: /* %s - what it is", unit)
    elseif not unit and not file.text:find "^/%* %S" then
      complain(file.path, 1, "opens with a comment that says what it is")
    end
  end
end

function rules.guards(tree, _, complain)
  for file, path in each_c(tree) do
    local guard = "MOONBUS_" .. path:upper():gsub("[/.]", "_")
    local first, second = strip(file.text):match "^%s*#ifndef ([%w_]+)\n#define ([%w_]+)\n"
    if path:match "%.h$" and (first ~= guard or second ~= guard) then
      complain(file.path, nil, "its include guard has to be %s", guard)
    end
  end
end

-- What else threads may wait at, of pthreads, C11 and libuv: the check of who holds what (must_hold) and
-- simulated time know nothing of it.
local LOCKS = { "pthread_mutex", "pthread_cond", "pthread_rwlock", "pthread_spin", "pthread_barrier", "uv_mutex_",
  "uv_cond_", "uv_rwlock_", "uv_sem_", "uv_barrier_", "mtx_", "cnd_", "sem_t%f[^%w_]", "sem_init", "sem_open",
  "sem_wait", "sem_timedwait", "sem_trywait", "sem_post" }

function rules.mutexes(tree, house, complain)
  for file, path in each_c(tree) do
    local text = holds(house.with_mutexes, path) and "" or strip(file.text)
    for _, start in ipairs(LOCKS) do
      local any = text:find(start:match "^[%l_]+", 1, true) -- which is looked for quickly
      for at, name in (any and text or ""):gmatch("()%f[%w_](" .. start .. "[%w_]*)") do
        local _, above = text:sub(1, at):gsub("\n", "")
        complain(file.path, above + 1, "%s is base/sync's: struct mutex, struct cond, struct semaphore", name)
      end
    end
  end
end

-- Calls seen(kind, tag, line) for each struct, union or enum that the text defines. Attributes may stand between
-- the two: `struct __attribute__((packed)) lane {`, `struct MUTEX_TYPE mutex {`.
local function each_tag(text, seen)
  local function without(attribute) return (attribute:gsub("[^\n]", "")) end
  text = strip(text):gsub("__attribute__%s*%b()", without):gsub("_Alignas%s*%b()", without)
  for _, kind in ipairs { "struct", "union", "enum" } do
    for before, rest, at in text:gmatch("(.?)%f[%w_]" .. kind .. "%s+([%w_%s]-)%s*(){") do
      local tag = rest:match "^([%w_]+)$" or rest:match "^[%u_]+%s+([%w_]+)$"
      local _, above = text:sub(1, at):gsub("\n", "")
      if tag and before ~= "(" then seen(kind, tag, above + 1) end
    end
  end
end

function rules.tags(tree, _, complain)
  local first = {}
  for file in each_c(tree) do
    each_tag(file.text, function(kind, tag, line)
      if first[tag] then
        complain(tag, nil, "%s:%d: %s %s is defined in %s already", file.path, line, kind, tag, first[tag])
      end
      first[tag] = first[tag] or file.path
    end)
  end
end

-- --- all of them ------------------------------------------------------------------------------

-- spec/unit/structure_spec.lua wants a tree that breaks it of each that stands here.
rules.names = { "paths", "floors", "rooms", "doors", "lua", "nats", "uthash", "cjson", "private", "rings", "length",
  "columns", "opening", "guards", "mutexes", "tags" }

-- The lines that tell what the tree breaks; none when it keeps to the house.
function rules.check(tree, house)
  local offences = {}
  for _, name in ipairs(rules.names) do
    local still, met = house.still[name] or {}, {}
    rules[name](tree, house, function(where, line, format, ...)
      if holds(still, where) then
        met[where] = true
      else
        local place = line and ("%s:%d"):format(where, line) or where
        offences[#offences + 1] = place .. ": " .. format:format(...)
      end
    end)
    for _, where in ipairs(still) do
      if not met[where] then
        offences[#offences + 1] = (".ci/house.lua: still.%s does not need %s any more"):format(name, where)
      end
    end
  end
  return offences
end

return rules
