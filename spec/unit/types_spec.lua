-- What editors read (lua/library): each annotation is one by the grammar of LuaCATS, each type that it names is there,
-- it stands at the function that it is of; and what examples and documents call is called with as many arguments.
local function lines_of(command)
  local pipe = io.popen(command)
  local list = {}
  for line in pipe:lines() do list[#list + 1] = line end
  pipe:close()
  return list
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- --- the grammar of types ---

local parser = {}
parser.__index = parser

function parser:take(pattern)
  local from, to, got = self.text:find("^%s*(" .. pattern .. ")", self.at)
  if not from then return nil end
  self.at = to + 1
  return got
end

-- Without blanks before it: of what may end a type.
function parser:take_close(pattern)
  local from, to, got = self.text:find("^(" .. pattern .. ")", self.at)
  if not from then return nil end
  self.at = to + 1
  return got
end

function parser:need(pattern, what)
  return self:take(pattern) or error(("%s is expected at %q"):format(what, self.text:sub(self.at)), 0)
end

local NAME = "[%a_][%w_.]*"

function parser:list(close)
  if self:take(close) then return end
  repeat self:type() until not self:take ","
  self:need(close, "the end of a list")
end

function parser:fields()
  if self:take "}" then return end
  repeat
    if self:take "%[" then
      self:type()
      self:need("%]", "]")
    else
      self:need(NAME, "a field's name")
      self:take_close "%?"
    end
    self:need(":", "a colon")
    self:type()
  until not self:take "[,;]"
  self:need("}", "}")
end

-- params: of the outermost one, as tags.param has them.
function parser:fun()
  local params = self.params or {}
  self.params = {}
  self.outer = self.outer or params
  self:need("%(", "(")
  if not self:take "%)" then
    repeat
      local name = self:take "%.%.%." or self:need("[%a_][%w_]*", "a parameter's name")
      params[#params + 1] = { name = name, optional = self:take_close "%?" ~= nil }
      if self:take ":" then self:type() end
    until not self:take ","
    self:need("%)", ")")
  end
  if self:take_close ":" then
    repeat self:result() until not self:take_close ","
  end
end

-- Of a function: types, "...", or several in brackets, with their names.
function parser:result()
  if self:take "%.%.%." then
    if self:take_close ":" then self:type() end
  elseif self:take "%(" then
    repeat
      self:take "[%a_][%w_]*:"
      self:result()
    until not self:take ","
    self:need("%)", ")")
    while self:take_close "%[%]" or self:take_close "%?" do end -- luacheck: ignore
    if self:take_close "|" then self:type() end
  else
    self:type()
  end
end

function parser:primary()
  if self:take "%(" then
    self:type()
    return self:need("%)", ")")
  end
  if self:take "{" then return self:fields() end
  if self:take '"[^"]*"' or self:take "%-?%d+" then return end
  if self:take "fun%f[%W]" then return self:fun() end
  local name = self:need(NAME, "a type")
  self.names[#self.names + 1] = name
  if self:take_close "<" then self:list ">" end
end

function parser:type()
  repeat
    self:primary()
    while self:take_close "%[%]" or self:take_close "%?" do end -- luacheck: ignore
  until not (self:take_close "|" or self:take "|%f[^|%s]")
end

-- The rest of the text behind a type; the names in it are added. Of a function also its parameters.
local function parse(text, names)
  local self = setmetatable({ text = text, at = 1, names = names }, parser)
  self:type()
  return self.text:sub(self.at), self.outer
end

-- --- annotations ---

local BUILT_IN = {}
for name in ([[any nil boolean string number integer table function thread userdata lightuserdata true false
  self]]):gmatch "%S+" do
  BUILT_IN[name] = true
end

-- known: { types, uses: { name, place }, functions: { name = { { least, most } } } }.
local tags = {}

local function typed(block, text, place)
  local names = {}
  local rest, params = parse(text, names)
  for _, name in ipairs(names) do
    if not block.generics[name] then block.known.uses[#block.known.uses + 1] = { name = name, place = place } end
  end
  return rest, params
end

local function spaced(rest)
  if not rest:find "^%s" and rest ~= "" and not rest:find "^%.%.%." then
    error(("what stands behind the type: %q"):format(rest), 0)
  end
end

local function define(block, name)
  if block.known.types[name] then error(name .. " is there already", 0) end
  block.known.types[name] = true
end

-- _: none that can be required.
function tags.meta(_, text) assert(text == "_" or text:find "^[%w.]+$", "a module's name") end

function tags.class(block, text, place)
  local name, parents = text:match "^([%w_.]+)%s*:?%s*(.*)$"
  define(block, name)
  block.fields = {}
  for parent in parents:gmatch "[^,%s]+" do
    block.known.uses[#block.known.uses + 1] = { name = parent, place = place }
  end
end

function tags.field(block, text, place)
  if not block.fields then error("it is of no class", 0) end
  local name, rest = text:match "^([%a_][%w_]*)%??%s+(.*)$"
  if not name then
    local index = text:match "^%b[]"
    assert(index, "a field's name")
    typed(block, index:sub(2, -2), place)
    rest = text:sub(#index + 1)
  else
    if block.fields[name] then error(name .. " is there already", 0) end
    block.fields[name] = true
  end
  spaced((typed(block, rest, place)))
end

function tags.param(block, text, place)
  local name, optional, rest = text:match "^([%a_][%w_]*)(%??)%s+(.*)$"
  if not name then name, optional, rest = text:match "^(%.%.%.)(%??)%s+(.*)$" end
  assert(name, "a parameter's name")
  spaced((typed(block, rest, place)))
  local nilable = rest:find "^[%w_.]+%?" or rest:find "^any%f[%W]" or rest:find "^moonbus%.Data%f[%W]"
    or rest:find "|nil" or rest:find "^nil"
  block.params[#block.params + 1] = { name = name, optional = optional ~= "" or nilable ~= nil or name == "..." }
end

tags["return"] = function(block, text, place)
  if text:find "^%.%.%." then return end
  spaced((typed(block, text, place)))
  block.returns = true
end

function tags.alias(block, text, place)
  local name, rest = text:match "^([%w_.]+)%s*(.*)$"
  define(block, name)
  block.choices = rest == ""
  if rest ~= "" then spaced((typed(block, rest, place))) end
end

-- How many arguments it takes.
local function count_params(params)
  local least, most = 0, 0
  for index, param in ipairs(params) do
    if param.name == "..." then
      most = math.huge
    else
      most = most + 1
      if not param.optional then least = index end
    end
  end
  return { least = least, most = most }
end

function tags.overload(block, text, place)
  assert(text:find "^fun%(", "fun(...)")
  local rest, params = typed(block, text, place)
  spaced(rest)
  block.overloads[#block.overloads + 1] = params
end

function tags.generic(block, text, place)
  local name, parent = text:match "^([%a_][%w_]*)%s*:?%s*(.*)$"
  block.generics[assert(name, "a name")] = true
  if parent ~= "" then spaced((typed(block, parent, place))) end
end

function tags.type(block, text, place) spaced((typed(block, text, place))) end

function tags.operator(block, text, place)
  local inner, rest = text:match "^%l+(%b()):%s*(.*)$"
  assert(inner, "operator(types): type")
  if inner ~= "()" then typed(block, inner:sub(2, -2), place) end
  spaced((typed(block, rest, place)))
end

-- --- a file ---

local function new_block(known)
  return { known = known, params = {}, overloads = {}, generics = {}, any = false }
end

local function end_function(block, known, name, separator, list)
  local params = {}
  for param in list:gmatch "[%w_.]+" do params[#params + 1] = param end
  if #params ~= #block.params then
    error(("%s has %d parameters, of which %d are annotated"):format(name, #params, #block.params), 0)
  end
  for index, param in ipairs(params) do
    if block.params[index].name ~= param then
      error(("%s: the parameter %d is %s, annotated is %s"):format(name, index, param, block.params[index].name), 0)
    end
  end
  local forms = known.functions[separator .. name] or {}
  known.functions[separator .. name] = forms
  forms[#forms + 1] = count_params(block.params)
  for _, overload in ipairs(block.overloads) do forms[#forms + 1] = count_params(overload) end
end

local function read_line(line, block, known, place)
  local tag, rest = line:match "^%-%-%-@(%l+)%s*(.-)%s*$"
  if tag then
    if not tags[tag] then error("there is no @" .. tag, 0) end
    tags[tag](block, rest, place)
    block.any = true
    return block
  end
  if line:find "^%-%-%-|" then
    local choice = line:match '^%-%-%-|%s*(.-)%s*#' or line:match '^%-%-%-|%s*(.-)%s*$'
    if not block.choices then error("a choice of no alias", 0) end
    spaced((typed(block, choice, place)))
    return block
  end
  if line:find "^%-%-" then return block end
  local owner, separator, name, list = line:match "^function ([%w_]+)([.:])([%w_]+)%((.-)%) end$"
  if name then
    end_function(block, known, separator == ":" and name or owner .. "." .. name, separator == ":" and ":" or "", list)
  elseif #block.params > 0 or block.returns then
    error("these annotations are of no function: " .. line, 0)
  end
  return new_block(known)
end

local function read_library(known, complain)
  for _, path in ipairs(lines_of "find lua/library -name '*.lua' | sort") do
    local block, number = new_block(known), 0
    for line in (read(path) .. "\n"):gmatch "([^\n]*)\n" do
      number = number + 1
      local place = ("%s:%d"):format(path, number)
      local ok, next_block = pcall(read_line, line, block, known, place)
      if not ok then complain(("%s: %s: %s"):format(place, tostring(next_block), line)) end
      block = ok and next_block or new_block(known)
    end
  end
end

-- --- calls ---

-- Where strings, comments and what stands in brackets are blanked out, commas are those of the call.
local function blank(text)
  local function spaces(found) return (found:gsub("[^\n]", " ")) end
  text = text:gsub("%-%-%[%[.-%]%]", spaces):gsub("%[%[.-%]%]", function(found)
    return '"' .. spaces(found):sub(3) .. '"'
  end)
  local out, at = {}, 1
  while at <= #text do
    local c = text:sub(at, at)
    local to = at
    if text:sub(at, at + 1) == "--" then
      to = (text:find("\n", at, true) or #text + 1) - 1
      out[#out + 1] = spaces(text:sub(at, to))
    elseif c == '"' or c == "'" then
      to = at + 1
      while to <= #text and text:sub(to, to) ~= c do to = to + (text:sub(to, to) == "\\" and 2 or 1) end
      out[#out + 1] = c .. ("x"):rep(to - at - 1) .. c
    else
      out[#out + 1] = c
    end
    at = to + 1
  end
  return table.concat(out)
end

local function count_arguments(inner)
  inner = inner:sub(2, -2)
  if not inner:find "%S" then return 0 end
  -- The parameters of functions and what they hold have commas of their own.
  local depth, count, at = 0, 1, 1
  while at <= #inner do
    local word = inner:match("^[%a_][%w_]*", at)
    local c = inner:sub(at, at)
    if word then
      if word == "function" or word == "if" or word == "do" or word == "repeat" then depth = depth + 1 end
      if word == "end" or word == "until" then depth = depth - 1 end
      at = at + #word
    else
      if c:find "[%(%[{]" then depth = depth + 1 end
      if c:find "[%)%]}]" then depth = depth - 1 end
      if c == "," and depth == 0 then count = count + 1 end
      at = at + 1
    end
  end
  -- A call or "..." at the end gives any number.
  local open = inner:find "[%w_]%s*%b()%s*$" or inner:find "%.%.%.%s*$" or inner:find '[%w_]%s*"x*"%s*$'
  return count, open ~= nil
end

local function fits(forms, count, open)
  for _, form in ipairs(forms) do
    if count <= form.most and (count >= form.least or open) then return true end
  end
  return false
end

local MODULES = { bus = true, js = true, kv = true, objects = true, test = true }
-- Methods that values of others have, too.
local FOREIGN = { find = true, match = true, gmatch = true, gsub = true, format = true, sub = true, rep = true,
  upper = true, lower = true, byte = true, len = true, reverse = true, close = true, read = true, write = true,
  lines = true, seek = true, flush = true, execute = true, connect = true, new = true }

local function check_calls(known, text, place, complain)
  text = blank(text)
  for at, owner, separator, name, inner in text:gmatch "()([%a_][%w_]*)([.:])([%a_][%w_]*)(%b())" do
    local key = separator == ":" and ":" .. name or MODULES[owner] and owner .. "." .. name
    local forms = key and not (separator == ":" and FOREIGN[name]) and known.functions[key]
    if forms then
      local count, open = count_arguments(inner)
      if not fits(forms, count, open) then
        local _, line = text:sub(1, at):gsub("\n", "")
        complain(("%s:%d: %s%s%s with %d arguments"):format(place, line + 1, owner, separator, name, count))
      end
    end
  end
end

-- --- specs ---

describe("The library for editors", function()
  local known, wrong = { types = {}, uses = {}, functions = {} }, {}
  local function complain(text) wrong[#wrong + 1] = text end
  setup(function() read_library(known, complain) end)

  it("has annotations by the grammar of LuaCATS alone, each at what it is of", function()
    assert.same({}, wrong)
    assert.is_true(#known.uses > 500, #known.uses .. " types")
  end)

  it("names no type that is not there", function()
    local unknown = {}
    for _, use in ipairs(known.uses) do
      if not known.types[use.name] and not BUILT_IN[use.name] then
        unknown[#unknown + 1] = ("%s: %s"):format(use.place, use.name)
      end
    end
    assert.same({}, unknown)
  end)

  it("takes the calls of the examples, of what moonbus init makes, and of the documents", function()
    local found, files, count = {}, {}, 0
    for _, path in ipairs(lines_of "find examples host/cli/init/project -name '*.lua' | sort") do
      files[#files + 1] = { path, read(path) }
    end
    for _, path in ipairs(lines_of "ls docs/*.md README.md") do
      for block in ("\n" .. read(path)):gmatch "\n```lua\n(.-)\n```" do files[#files + 1] = { path, block } end
    end
    for _, file in ipairs(files) do
      count = count + 1
      check_calls(known, file[2], file[1], function(text) found[#found + 1] = text end)
    end
    assert.same({}, found)
    assert.is_true(count > 100, tostring(count))
  end)

  it("would say what is wrong", function()
    for _, text in ipairs { "string|", "fun(", "{ a: }", "string[", "table<string", "fun(a b)", "" } do
      assert.is_false((pcall(function() spaced((parse(text, {}))) end)), text)
    end
    for _, text in ipairs { "string?", "fun(a: string, ...: any): string?, integer", "{ a: string?, [string]: any }",
      '"a"|"b"|nil', "(string|number)[]", "table<string, fun(): ...>", "moonbus.Error?" } do
      assert.equal("", (parse(text, {})), text)
    end
    local said = {}
    local calls = "bus.sleep()\nbus.publish('a', f(1, 2), {}, 4)\nmsg:ack(1, 2)\nbus.lock('a', function(a, b) end)"
    check_calls(known, calls, "x", function(text) said[#said + 1] = text end)
    assert.same({ "x:1: bus.sleep with 0 arguments", "x:2: bus.publish with 4 arguments",
      "x:3: msg:ack with 2 arguments" }, said)
  end)
end)
