--- Which keys of a bucket have a value: the subjects that its stream holds, without those whose last
--- message is a deletion.
local core = require("moonbus.core")
local entries = require("moonbus.kv_entry")
local js_api = require("moonbus.js_api")
local task = require("moonbus.task")

--- So many are looked at, at a time.
local AT_A_TIME = 32

--- Every subject of the filter: a list, or nil and an error. The server tells 100,000 in one answer.
local function subjects_of(binding, stream, filter, timeout)
  local list, offset = {}, 0
  while true do
    local request = { subjects_filter = filter, offset = offset > 0 and offset or nil }
    local info, err = js_api.call(binding, "STREAM.INFO." .. stream, request, timeout)
    if not info then return nil, err end
    local came = 0
    for subject in pairs(info.state.subjects or {}) do
      list[#list + 1] = subject
      came = came + 1
    end
    offset = offset + came
    if came == 0 or offset >= (info.total or 0) then break end
  end
  table.sort(list)
  return list
end

--- Looks at the last message of each subject; has[i]: the i-th has a value. nil, or an error.
local function look(binding, stream, subjects, has, timeout)
  local next_one, failed = 0, nil
  local function some()
    while not failed and next_one < #subjects do
      next_one = next_one + 1
      local at = next_one
      local message, err = js_api.get(binding, stream, { last_by_subj = subjects[at] }, timeout)
      if message then
        has[at] = entries.operation_of(message) == "PUT"
      elseif err.code ~= "not_found" then
        failed = err
      end
    end
  end
  local functions = {}
  for i = 1, math.min(AT_A_TIME, #subjects) do functions[i] = some end
  task.gather(functions)
  return failed
end

--- A list of keys, sorted; or nil and an error. prefix: of the subjects, "$KV.b.".
return function(binding, stream, prefix, filter, timeout)
  local subjects, err = subjects_of(binding, stream, prefix .. filter, timeout)
  if not subjects then
    if err.api_code == js_api.STREAM_GONE then
      err = core.error("no_stream", ("there is no stream %s: the bucket has been deleted"):format(stream))
    end
    return nil, err
  end
  local has = {}
  -- In a child of its own: how many there are must not count in the ids of what the handler spawns.
  local failed = task.spawn(look, binding, stream, subjects, has, timeout):wait()
  if failed then return nil, failed end
  local list = {}
  for at, subject in ipairs(subjects) do
    if has[at] then list[#list + 1] = subject:sub(#prefix + 1) end
  end
  return list
end
