-- What examples/usage.lua has done on an offload thread: plain Lua that may block, with the whole library.
local M = {}

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

function M.of(folder)
  local pipe = assert(io.popen("du -sk -- " .. quote(folder) .. " 2>&1"))
  local said = pipe:read "*a"
  pipe:close()
  local kilobytes = tonumber(said:match "^(%d+)")
  if not kilobytes then return nil, said:match "^[^\n]*" end
  return kilobytes
end

return M
