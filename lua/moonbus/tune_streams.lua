-- Which streams the private server of `moonbus tune` needs before the host starts, and which subjects are played.
-- Pure.
local streams = {}

local function tokens(subject)
  local list = {}
  for token in subject:gmatch "[^.]+" do list[#list + 1] = token end
  return list
end

-- Does the pattern take all that the subject, which may have wildcards, stands for?
local function takes(pattern, subject)
  local wanted, has = tokens(pattern), tokens(subject)
  for index, token in ipairs(wanted) do
    if token == ">" then return #has >= index end
    if not has[index] or has[index] == ">" then return false end
    if token ~= "*" and token ~= has[index] then return false end
  end
  return #wanted == #has
end

-- Of those that take it, by any of their subjects.
local function taken(list, subject)
  for _, stream in ipairs(list) do
    for _, pattern in ipairs(stream.subjects) do
      if takes(pattern, subject) then return true end
    end
  end
  return false
end

local function with_subjects(stream)
  return { name = stream.name, subjects = stream.subjects or { stream.name } }
end

local function find(list, name)
  for _, stream in ipairs(list) do
    if stream.name == name then return stream end
  end
end

-- A subject that the pattern takes.
local function example(pattern)
  local list = tokens(pattern)
  for index, token in ipairs(list) do
    if token == "*" or token == ">" then list[index] = "tune" end
  end
  return table.concat(list, ".")
end

local function durables(found)
  local list = {}
  for _, handler in ipairs(found.handlers) do list[#list + 1] = handler.handler end
  return #list > 0 and table.concat(list, ", ") or "none"
end

-- The handlers of the stream, and the subjects to play where the input names none; or nil and what is wrong.
---@param found table what the scripts register: { handlers, streams }
---@param name string the stream
---@param subject? string stated
function streams.subjects(found, name, subject)
  local handlers, list, seen = {}, {}, {}
  for _, handler in ipairs(found.handlers) do
    if handler.stream == name then handlers[#handlers + 1] = handler end
  end
  if #handlers == 0 then
    return nil, ("no handler consumes from the stream %s; the durables of these scripts: %s"):format(name,
      durables(found))
  end
  local function add(each)
    if not seen[each] then list[#list + 1], seen[each] = each, true end
  end
  local stated = find(found.streams, name)
  for _, handler in ipairs(handlers) do
    for _, filter in ipairs(handler.filters) do add(example(filter)) end
    if #handler.filters == 0 then
      for _, pattern in ipairs(stated and with_subjects(stated).subjects or { name:lower() .. ".tune" }) do
        add(example(pattern))
      end
    end
  end
  return { handlers = handlers, subjects = subject and { subject } or list }
end

-- The streams to make: what the handlers consume from and do not state, where dead letters go, and what --output
-- says.
---@param found table
---@param name string the stream that is played into
---@param played string[] the subjects of the messages
---@param copied? table settings of the real stream
---@param outputs string[]
function streams.needed(found, name, played, copied, outputs)
  local all, make = {}, {}
  for _, stream in ipairs(found.streams) do all[#all + 1] = with_subjects(stream) end
  local function add(stream, subjects)
    local settings = { name = stream, subjects = subjects, storage = "file", num_replicas = 1 }
    all[#all + 1], make[#make + 1] = settings, settings
  end
  for _, handler in ipairs(found.handlers) do
    if not find(all, handler.stream) then
      local own = handler.stream == name and (copied and copied.subjects or played) or handler.filters
      add(handler.stream, #own > 0 and own or { handler.stream:lower() .. ".>" })
    end
  end
  local dead, seen = {}, {}
  for _, handler in ipairs(found.handlers) do
    local subject = handler.dead_letter
    if subject and not seen[subject] and not taken(all, subject) then
      dead[#dead + 1], seen[subject] = subject, true
    end
  end
  if #dead > 0 then add("TUNE_DEAD_LETTERS", dead) end
  if #outputs > 0 then add("TUNE_OUTPUTS", outputs) end
  return make
end

return streams
