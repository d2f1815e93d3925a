-- What thumbnails.lua has done on an offload thread: ImageMagick, which may take as long as it wants.
local M = {}

local function read(path)
  local file = io.open(path, "rb")
  local data = file and file:read "*a"
  if file then file:close() end
  return data
end

-- The exit status: os.execute gives 256 times that.
local function run(command) return os.execute(command) / 256 end

-- PNG of at most width x width pixels; nil and a reason: it is no image. Raises where the tool fails.
function M.resize(data, width)
  local from, to = os.tmpname(), os.tmpname()
  local file = assert(io.open(from, "wb"))
  file:write(data)
  file:close()
  -- Only names and numbers of our own are in the command line. A small file can say that it is huge: so its size has
  -- a limit. [0]: of one that moves, the first picture.
  local status = run(("timeout -k 1 8 convert -limit width 16KP -limit height 16KP '%s[0]' -auto-orient " ..
    "-thumbnail '%dx%d>' png:%s 2>%s.said"):format(from, width, width, to, to))
  local small, said = read(to), read(to .. ".said")
  for _, path in ipairs { from, to, to .. ".said" } do os.remove(path) end
  if status == 0 and small and small ~= "" then return small end
  if status == 1 then return nil, "no image: " .. (said or ""):match "^[^\n]*" end
  error(("convert ended with %d: %s"):format(status, said or ""))
end

return M
