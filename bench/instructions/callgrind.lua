-- What callgrind has written: instructions by function, of one file or several.
local callgrind = {}

-- Whether it can run here.
function callgrind.found()
  return os.execute "valgrind --version >/dev/null 2>&1" == 0
end

-- The words before a command that is to be counted. The files begin with `path`: see callgrind.files.
function callgrind.command(path, more)
  local command = {
    "valgrind", "--tool=callgrind", "--callgrind-out-file=" .. path, "--dump-line=no",
    "--compress-strings=no", "--compress-pos=no",
  }
  for _, option in ipairs(more or {}) do command[#command + 1] = option end
  return command
end

-- Calls on_function(function, instructions) for what each function of a file took by itself; and
-- on_call(caller, called, instructions) for what was called, with all that this called in its turn.
-- A function is { object, source, name }: "???" is what is not known; of what is called, the object is.
function callgrind.each(path, on_function, on_call)
  local at, called = { object = "???", source = "???", name = "???" }, {}
  local calls = false
  for line in io.lines(path) do
    local key, value = line:match "^(%l+)=(.*)$"
    if key == "ob" or key == "fl" or key == "fn" then
      at = { object = at.object, source = at.source, name = at.name }
      at[key == "ob" and "object" or key == "fl" and "source" or "name"] = value
    elseif key == "cfi" or key == "cfl" then
      called.source = value -- else it is the caller's
    elseif key == "cfn" then
      called.name = value
    elseif key == "calls" then
      calls = true -- the next line has the sum
    elseif line:find "^%d" then
      local count = tonumber(line:match "^%d+ (%d+)$")
      if not calls then
        on_function(at, count)
      elseif on_call then
        on_call(at, { source = called.source or at.source, name = called.name }, count)
      end
      if calls then calls, called = false, {} end
    end
  end
end

-- What it has written at `path`, by the part of each name after it: ".3" is the third dump,
-- "-02" the second thread.
function callgrind.files(path)
  local list = {}
  local pipe = assert(io.popen(("ls '%s'* 2>/dev/null"):format(path)))
  for file in pipe:lines() do list[file:sub(#path + 1)] = file end
  pipe:close()
  return list
end

return callgrind
