-- What one test does to the libraries ends with it: a snapshot of the globals of its state and of the
-- tables in them, one level deep, and the way back. Globals of its own file stay, but for the kit's.
local M = {}

local function copy_of(value)
  local copy = {}
  for key, inner in next, value do copy[key] = inner end
  return copy
end

-- world: the globals of the state. own: what the kit has put into those of the file.
function M.take(world, file, own)
  local taken = { file = file, own = own, { table = world, fields = copy_of(world) } }
  for _, value in next, world do
    if type(value) == "table" and value ~= world then
      taken[#taken + 1] = { table = value, fields = copy_of(value) }
    end
  end
  local loaders = world.package and world.package.loaders
  if type(loaders) == "table" then taken[#taken + 1] = { table = loaders, fields = copy_of(loaders) } end
  return taken
end

function M.put_back(taken)
  for _, each in ipairs(taken) do
    local now, before = each.table, each.fields
    for key in next, now do
      if before[key] == nil then now[key] = nil end
    end
    for key, value in next, before do
      if rawget(now, key) ~= value then rawset(now, key, value) end
    end
  end
  for name, value in next, taken.own do rawset(taken.file, name, value) end
end

return M
