-- The command line of a program of the benchmark: --name value, or --name alone.
local arguments = {}

-- list: what was given; options: what there is, in the order in which it is told, { "build", "json" }; flags:
-- a set, those without a value. Gives values by name, an empty one as nil; or nil and a sentence.
function arguments.read(list, options, flags)
  local known, shown, given = {}, {}, {}
  for index, name in ipairs(options) do known[name], shown[index] = true, "--" .. name end
  local index = 1
  while index <= #list do
    local name = list[index]:match "^%-%-(%l+)$"
    if not known[name] or not flags[name] and not list[index + 1] then
      return nil, ("unknown option \"%s\"; there are: %s"):format(list[index], table.concat(shown, " "))
    end
    if flags[name] then
      given[name] = true
    else
      index = index + 1
      given[name] = list[index] ~= "" and list[index] or nil
    end
    index = index + 1
  end
  return given
end

return arguments
