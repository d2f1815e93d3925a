-- The results as JUnit's XML, which CI systems read.
local M = {}

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

-- What XML cannot say at all becomes a question mark.
local function escape(text)
  return (tostring(text):gsub("[%z\1-\8\11\12\14-\31\127]", "?"):gsub('[&<>"]', ESCAPES))
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
