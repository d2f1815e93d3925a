-- The file of --stub: a chunk that gets the script, as tests have it, and answers for others.
local M = {}

-- A function (script) for run.open; nil without a file. The second value: what is wrong.
function M.load(path)
  if not path then return nil end
  local chunk, why = loadfile(path)
  if not chunk then return nil, why end
  return function(script)
    local ok, err = pcall(chunk, script)
    if not ok then error(("--stub: %s"):format(tostring(err)), 0) end
  end
end

return M
