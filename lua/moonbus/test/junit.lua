-- The results as JUnit's XML, which CI systems read.
local M = {}

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

-- How many bytes of a character begin here: 2 to 4; nil: it is no UTF-8, or none that XML may have.
local function length_at(text, at)
  local a, b, c, d = text:byte(at, at + 3)
  local function follows(byte) return byte and byte >= 0x80 and byte < 0xC0 end
  if a < 0xC2 or a > 0xF4 or not follows(b) then return nil end
  if a < 0xE0 then return 2 end
  if not follows(c) then return nil end
  if a < 0xF0 then
    local overlong, surrogate = a == 0xE0 and b < 0xA0, a == 0xED and b >= 0xA0
    local none = a == 0xEF and b == 0xBF and c >= 0xBE
    return not (overlong or surrogate or none) and 3 or nil
  end
  if not follows(d) or (a == 0xF0 and b < 0x90) or (a == 0xF4 and b >= 0x90) then return nil end
  return 4
end

-- What XML cannot say at all becomes a question mark.
local function escape(text)
  text = tostring(text):gsub("[%z\1-\8\11\12\14-\31\127]", "?"):gsub('[&<>"]', ESCAPES)
  if not text:find "[\128-\255]" then return text end
  local parts, at = {}, 1
  while at <= #text do
    local from = text:find("[\128-\255]", at)
    parts[#parts + 1] = text:sub(at, (from or #text + 1) - 1)
    if not from then break end
    local length = length_at(text, from)
    parts[#parts + 1] = length and text:sub(from, from + length - 1) or "?"
    at = from + (length or 1)
  end
  return table.concat(parts)
end

local function count(list, status)
  local number = 0
  for _, result in ipairs(list) do number = number + (result.status == status and 1 or 0) end
  return number
end

local function add_case(lines, file, result)
  local head = ('    <testcase classname="%s" name="%s" time="%.3f"'):format(escape(file.path), escape(result.name),
    result.seconds)
  if result.status == "passed" then
    lines[#lines + 1] = head .. "/>"
    return
  end
  lines[#lines + 1] = head .. ">"
  if result.status == "pending" then
    lines[#lines + 1] = "      <skipped/>"
  else
    lines[#lines + 1] = ('      <failure message="%s">%s</failure>'):format(
      escape(result.failure.message:match "[^\n]*"),
      escape(result.failure.message .. "\n" .. (result.failure.traceback or "")))
  end
  lines[#lines + 1] = "    </testcase>"
end

-- files: { path, results, error (it does not load) }.
function M.text(files)
  local lines = { '<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>" }
  for _, file in ipairs(files) do
    local seconds = 0
    for _, result in ipairs(file.results) do seconds = seconds + result.seconds end
    lines[#lines + 1] = ('  <testsuite name="%s" tests="%d" failures="%d" errors="%d" skipped="%d" time="%.3f">')
      :format(escape(file.path), #file.results, count(file.results, "failed"), file.error and 1 or 0,
        count(file.results, "pending"), seconds)
    for _, result in ipairs(file.results) do add_case(lines, file, result) end
    if file.error then lines[#lines + 1] = ("    <system-err>%s</system-err>"):format(escape(file.error)) end
    lines[#lines + 1] = "  </testsuite>"
  end
  lines[#lines + 1] = "</testsuites>"
  return table.concat(lines, "\n") .. "\n"
end

return M
