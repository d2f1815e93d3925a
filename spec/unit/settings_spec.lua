-- What a config that is read anew changes stands in two places: config.lua says of each setting when it
-- takes effect, and config_change.c takes over the fields of those that do so at once.
local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- "publish_backoff_min" for publish.backoff.min and for publish_backoff_min_ns.
local function plain(name)
  return (name:gsub("%.", "_"):gsub("^limits_", "limit_"):gsub("_ns$", ""):gsub("_bytes$", ""):gsub("_json$", ""))
end

-- { limit_memory = "scripts", workers = "start" }
local function leaves()
  local list = {}
  for leaf in read "lua/moonbus/config.lua":gmatch "\n  (%b{})," do
    local key = leaf:match '^{ "([%l_.]+)"'
    if key then list[plain(key)] = leaf:match 'takes = "(%l+)"' or "start" end
  end
  return list
end

local function taken_over()
  local list = {}
  for field in read "host/app/config_change.c":gmatch "\n%s+SWAP%(([%l_]+)%);" do
    -- How many there are of a list, and what is no setting but comes with the file.
    if not field:find "_count$" and field ~= "warnings" and field ~= "file" then list[plain(field)] = true end
  end
  return list
end

describe("A setting that a reload of the config may change", function()
  local settings, fields = leaves(), taken_over()

  it("is taken over", function()
    local missing, count = {}, 0
    for name, takes in pairs(settings) do
      count = count + 1
      if (takes == "now" or takes == "scripts") and not fields[name] then missing[#missing + 1] = name end
    end
    assert.is_true(count > 30, "config.lua is read wrongly: " .. count)
    assert.same({}, missing)
  end)

  -- Whatever a change of it does, what runs would otherwise have the default of C: 0.
  it("is read", function()
    local code, missing = read "host/app/config.c", {}
    for leaf in read "lua/moonbus/config.lua":gmatch "\n  (%b{})," do
      local key = leaf:match '^{ "([%l_.]+)"'
      if key and not code:find(('"%s"'):format(key), 1, true) then missing[#missing + 1] = key end
    end
    assert.same({}, missing)
  end)

  it("is one that says so: no other is taken over", function()
    local wrong = {}
    for name in pairs(fields) do
      local takes = settings[name]
      if takes ~= "now" and takes ~= "scripts" then wrong[#wrong + 1] = name end
    end
    assert.same({}, wrong)
  end)

  it("is taken over with its length, when it is a list", function()
    local code = read "host/app/config_change.c"
    for field in read "host/app/config.h":match "\nstruct config {.-\n};":gmatch "([%l]+)_count" do
      local list = field == "leaf" and "leaves" or field .. "s"
      local swapped = code:find("SWAP(" .. list .. ")", 1, true) or code:find("SWAP(" .. field .. ")", 1, true)
      local counted = code:find("SWAP(" .. field .. "_count)", 1, true)
      assert.equal(swapped ~= nil, counted ~= nil, field)
    end
  end)
end)
