-- Numbers of several runs, false where a run failed, and how they are shown.
local stats = {}

function stats.median(values)
  local sorted = {}
  for _, value in ipairs(values) do
    if value then sorted[#sorted + 1] = value end
  end
  table.sort(sorted)
  local middle = (#sorted + 1) / 2
  if #sorted == 0 then return nil end
  return (sorted[math.floor(middle)] + sorted[math.ceil(middle)]) / 2
end

-- Half of what lies between the lowest and the highest, as a share of the median.
function stats.spread(values)
  local median = stats.median(values)
  if not median or median == 0 then return 0 end
  local low, high = math.huge, -math.huge
  for _, value in ipairs(values) do
    if value then low, high = math.min(low, value), math.max(high, value) end
  end
  return (high - low) / 2 / math.abs(median)
end

-- The median of the ratios of runs that followed each other: what disturbs the machine for longer
-- than a round disturbs both.
function stats.ratio(values, others)
  local ratios = {}
  for index, value in ipairs(values) do
    local other = others[index]
    if value and other and other ~= 0 then ratios[#ratios + 1] = value / other end
  end
  return stats.median(ratios)
end

-- 1234567.8 as "1,234,568"; small numbers with what they need.
function stats.text(value)
  if not value then return "-" end
  if math.abs(value) < 10 then return ("%.2f"):format(value) end
  if math.abs(value) < 100 then return ("%.1f"):format(value) end
  local digits = ("%.0f"):format(value)
  repeat
    local grouped, count = digits:gsub("^(-?%d+)(%d%d%d)", "%1,%2")
    digits = grouped
  until count == 0
  return digits
end

return stats
