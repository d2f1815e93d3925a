-- Temporary folders, removed at the latest when the runner ends.
local ffi = require "ffi"
local posix = require "spec.support.posix"

local temp = {}
local folders = {}

local function quote(path)
  return "'" .. path:gsub("'", "'\\''") .. "'"
end

-- A new, empty folder; its absolute path.
function temp.folder()
  local template = (os.getenv "TMPDIR" or "/tmp") .. "/moonbus-spec-XXXXXX"
  local buffer = ffi.new("char[?]", #template + 1, template)
  if posix.C.mkdtemp(buffer) == nil then posix.error "mkdtemp" end
  local path = ffi.string(buffer)
  folders[path] = true
  return path
end

-- Writes folder/name, with the folders on the way; gives the path back.
function temp.write(folder, name, content)
  local path = folder .. "/" .. name
  os.execute("mkdir -p " .. quote(path:match "^(.*)/"))
  local file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
  return path
end

function temp.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local content = file:read "*a"
  file:close()
  return content
end

function temp.remove(folder)
  if not folders[folder] then return end
  folders[folder] = nil
  os.execute("rm -rf " .. quote(folder))
end

-- Lives as long as this module; its end removes what a failed spec has left.
temp.guard = newproxy(true)
getmetatable(temp.guard).__gc = function()
  for folder in pairs(folders) do os.execute("rm -rf " .. quote(folder)) end
end

return temp
