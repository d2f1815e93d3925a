-- How `moonbus tune` writes numbers: durations and sizes as people read them, and as the settings take them.
local text = {}

-- Two figures: what was measured is no better than that.
local function figures(number)
  if number >= 10 then return ("%.0f"):format(number) end
  return (("%.1f"):format(number):gsub("%.0$", ""))
end

---@param seconds number
function text.duration(seconds)
  if seconds >= 60 then return figures(seconds / 60) .. " min" end
  if seconds >= 1 then return figures(seconds) .. " s" end
  if seconds >= 1e-3 then return figures(seconds * 1e3) .. " ms" end
  return figures(seconds * 1e6) .. " us"
end

---@param rate number messages in a second
function text.rate(rate) return (rate >= 10 and "%.0f/s" or "%.2g/s"):format(rate) end

function text.bytes(bytes)
  if bytes >= 2 ^ 20 then return figures(bytes / 2 ^ 20) .. " MB" end
  return figures(bytes / 2 ^ 10) .. " KB"
end

function text.percent(share) return ("%.0f %%"):format(100 * share) end

-- As a setting takes it: "320ms", "12s". seconds: as text.nice gives them.
function text.setting(seconds)
  local ms = math.floor(seconds * 1e3 + 0.5)
  if ms > 0 and ms % 60000 == 0 then return ("%dm"):format(ms / 60000) end
  if ms % 1000 == 0 then return ("%ds"):format(ms / 1000) end
  return ("%dms"):format(ms)
end

function text.megabytes(bytes) return ("%dMB"):format(math.ceil(bytes / 2 ^ 20)) end

-- Up to the next number of two figures; durations in whole milliseconds.
function text.nice(number, step)
  local unit = step or 1
  while number / unit >= 100 do unit = unit * 10 end
  return math.ceil(number / unit - 1e-9) * unit
end

-- Down: of a rate, which is not to promise too much.
function text.nice_down(number)
  local unit = number < 10 and 0.1 or 1
  while number / unit >= 100 do unit = unit * 10 end
  return math.max(math.floor(number / unit + 1e-9) * unit, number > 0 and 0.1 or 0)
end

return text
