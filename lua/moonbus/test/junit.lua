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

local HEAD, FOOT = '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n', "</testsuites>\n"
local REASON = "\0" -- no text that is escaped has it

-- ended_in: nil, or the name of the test in which the run ends, with REASON for why.
local function suite(file, ended_in)
  local seconds = 0
  for _, result in ipairs(file.results) do seconds = seconds + result.seconds end
  local lines = { ('  <testsuite name="%s" tests="%d" failures="%d" errors="%d" skipped="%d" time="%.3f">')
    :format(escape(file.path), #file.results + (ended_in and 1 or 0), count(file.results, "failed"),
      (file.error or ended_in) and 1 or 0, count(file.results, "pending"), seconds) }
  for _, result in ipairs(file.results) do add_case(lines, file, result) end
  if ended_in then
    lines[#lines + 1] = '    <testcase classname="' .. escape(file.path) .. '" name="' .. escape(ended_in) ..
      '" time="0.000">\n      <error message="' .. REASON .. '"/>\n    </testcase>'
  end
  if file.error then lines[#lines + 1] = ("    <system-err>%s</system-err>"):format(escape(file.error)) end
  lines[#lines + 1] = "  </testsuite>"
  return table.concat(lines, "\n") .. "\n"
end

-- files: { path, results, error (it does not load) }.
function M.text(files)
  local parts = {}
  for _, file in ipairs(files) do parts[#parts + 1] = suite(file) end
  return HEAD .. table.concat(parts) .. FOOT
end

-- Of a run that ends in a test of the last of these files: what is before the reason, and what is behind it. Files
-- before the last one have ended.
function M.halves(files, name)
  local parts, last = {}, files[#files]
  for index = 1, #files - 1 do
    files[index].suite = files[index].suite or suite(files[index])
    parts[index] = files[index].suite
  end
  local text = HEAD .. table.concat(parts) .. suite(last, name) .. FOOT
  local at = text:find(REASON, 1, true)
  return text:sub(1, at - 1), text:sub(at + 1)
end

return M
