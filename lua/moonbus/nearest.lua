--- The name that somebody meant, for "did you mean": the options of scripts and the keys of the
--- config file are judged alike.

--- How many letters differ (Levenshtein); two that have changed places are one difference.
local function distance(a, b)
  local before, row = {}, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local last = row
    row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before = last
  end
  return row[#b]
end

--- Of several that are as near, the first in the alphabet; nil when none is near.
---@param name string
---@param candidates string[]
---@return string|nil
return function(name, candidates)
  local best, least = nil, math.min(3, math.max(1, math.floor(#name / 3)))
  for _, candidate in ipairs(candidates) do
    local d = distance(name:lower(), candidate:lower())
    if d < least or d == least and (not best or candidate < best) then
      best, least = candidate, d
    end
  end
  return best
end
