-- A field of struct consumer_spec goes through several hands, in three files. Whether one was forgotten cannot be seen
-- from the size of the struct: it may have had room.
local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function function_of(path, name)
  return assert(read(path):match("\n[^\n]*%f[%w_]" .. name .. "%([^;{}]*%)\n(%b{})"), name)
end

-- { { name = "stream", pointer = true }, ... }
local function fields()
  local body = read("host/bus/consume/consumer.h"):match("\nstruct consumer_spec (%b{});"):gsub("/%*.-%*/", "")
  local list = {}
  for names in body:sub(2, -2):gmatch "[^;]+" do
    for name in (names:match "[%w_]+%s+([%w_*,%s]+)$" or ""):gmatch "[^,]+" do
      list[#list + 1] = { name = name:match "[%w_]+%s*$", pointer = name:find "%*" or names:find "%*" }
    end
  end
  assert.is_true(#list > 20, #list)
  return list
end

-- Of the fields that are wanted, those whose name stands in none of the texts as one of its patterns has it.
local function forgotten(wanted, text, ...)
  local list = {}
  for _, field in ipairs(fields()) do
    local found = not wanted(field)
    for _, pattern in ipairs { ... } do
      found = found or text:find((pattern:gsub("NAME", field.name)) .. "%f[^%w_]")
    end
    if not found then list[#list + 1] = field.name end
  end
  return list
end

describe("A field of what a durable is stated by", function()
  -- Which script it is of, and what never changes.
  local SAME = { owner = true, ordered = true }

  it("is compared, so that a reload that changes it alone has an effect", function()
    local compare = function_of("host/engine/version/registration.c", "registration_same_consumer")
    assert.same({}, forgotten(function(field) return not SAME[field.name] end, compare, "a%->NAME"))
  end)

  it("is copied, and freed with the copy, when it points to something", function()
    local path = "host/bus/consume/consumer_config.c"
    local strings = assert(read(path):match "\nstatic const size_t strings%[%] = (%b{});")
    for _, name in ipairs { "consumer_spec_copy", "consumer_spec_clear" } do
      assert.same({}, forgotten(function(field) return field.pointer end, strings .. function_of(path, name),
        "offsetof%(struct consumer_spec, NAME", "to%->NAME", "spec%->NAME"), name)
    end
  end)

  it("is freed with its registration, when it points to something", function()
    local free = function_of("host/engine/version/registration.c", "registration_free")
    local function is_its_own(field) return field.pointer and field.name ~= "extra" end -- that is the registration's
    assert.same({}, forgotten(is_its_own, free, "consumer%->NAME"))
    assert.is_truthy(free:find("registration->extra", 1, true))
  end)
end)
