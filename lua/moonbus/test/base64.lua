-- Bytes that are no text, as JSON has them.
local M = {}

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local value_of = {}
for place = 1, #DIGITS do value_of[DIGITS:byte(place)] = place - 1 end

local function digit(value) return DIGITS:sub(value + 1, value + 1) end

function M.encode(bytes)
  local out = {}
  for place = 1, #bytes, 3 do
    local a, b, c = bytes:byte(place, place + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    out[#out + 1] = digit(math.floor(bits / 262144)) .. digit(math.floor(bits / 4096) % 64)
      .. (b and digit(math.floor(bits / 64) % 64) or "=") .. (c and digit(bits % 64) or "=")
  end
  return table.concat(out)
end

-- nil: it is none.
function M.decode(text)
  local out, bits, count = {}, 0, 0
  text = text:gsub("%s", "")
  if #text % 4 ~= 0 or text:find("[^%w+/=]") or text:find("=[^=]") or text:find("===") then return nil end
  for place = 1, #text do
    local value = value_of[text:byte(place)]
    if not value then break end
    bits, count = bits * 64 + value, count + 6
    if count >= 8 then
      count = count - 8
      out[#out + 1] = string.char(math.floor(bits / 2 ^ count))
      bits = bits % 2 ^ count
    end
  end
  return table.concat(out)
end

return M
