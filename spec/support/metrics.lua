-- The metrics of a host, as they stand in the answer to GET /metrics.
local posix = require "spec.support.posix"

local metrics = {}

-- name="value",other="with \" in it" as a table.
local function labels_of(text)
  local labels = {}
  local at = 1
  while at <= #text do
    local name, start = text:match('^,?([%w_]+)="()', at)
    assert(name, "no label at: " .. text:sub(at))
    local value, finish = "", start
    while text:sub(finish, finish) ~= '"' do
      local char = text:sub(finish, finish)
      if char == "\\" then
        finish = finish + 1
        char = ({ n = "\n" })[text:sub(finish, finish)] or text:sub(finish, finish)
      end
      value, finish = value .. char, finish + 1
    end
    labels[name], at = value, finish + 1
  end
  return labels
end

local function sample_of(line)
  local name, labels, value = line:match "^([%w_:]+){(.*)} (%S+)$"
  if not name then name, value = line:match "^([%w_:]+) (%S+)$" end
  assert(name, "no sample: " .. line)
  return { name = name, labels = labels_of(labels or ""), value = tonumber(value) }
end

-- By family: { type, help, samples = { { name, labels, value } ... } }, and their names in order.
function metrics.parse(text)
  local families, order, current = {}, {}, nil
  for line in text:gmatch "[^\n]+" do
    local what, name, rest = line:match "^# (%u+) (%S+) ?(.*)$"
    if what == "HELP" or what == "TYPE" or what == "UNIT" then
      if not families[name] then
        families[name] = { samples = {} }
        order[#order + 1] = name
      end
      current = families[name]
      current[what:lower()] = rest
    elseif line ~= "# EOF" then
      table.insert(assert(current, line).samples, sample_of(line))
    end
  end
  return families, order
end

-- GET: its status, headers and body. header: a line more, with its line break.
function metrics.get(host, header, method)
  local port = tonumber(host.admin:match ":(%d+)$")
  local fd = assert(posix.dial(port, ("%s /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n%s\r\n")
    :format(method or "GET", header or "")), "no host listens")
  local text = posix.read_all(fd, 60)
  posix.C.close(fd)
  local head, body = text:match "^(.-)\r\n\r\n(.*)$"
  assert(head, "no answer: " .. text)
  return tonumber(head:match "^HTTP/%S+ (%d+)"), head, body
end

function metrics.of(host)
  local _, _, body = metrics.get(host)
  return metrics.parse(body)
end

-- The value of the one sample of that name that has these labels; nil: there is none.
function metrics.value(host, name, wanted)
  for _, family in pairs((metrics.of(host))) do
    for _, sample in ipairs(family.samples) do
      local fits = sample.name == name
      for label, value in pairs(wanted or {}) do fits = fits and sample.labels[label] == value end
      if fits then return sample.value end
    end
  end
end

return metrics
