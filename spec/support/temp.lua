-- Temporary folders, removed at the latest when the runner ends.
local ffi = require "ffi"
local posix = require "spec.support.posix"

local temp = {}
local folders = {}

-- By calls of our own: a shell for each would cost more than all else that starts with a host.
local C = posix.C
local DIRECTORY = 4 -- DT_DIR

local function make_folders(path)
  local at = 1
  while at do
    at = path:find("/", at + 1, true)
    C.mkdir(at and path:sub(1, at - 1) or path, 511) -- 0777
  end
end

-- Symbolic links are removed, not followed.
local function remove_all(path)
  C.chmod(path, 448) -- 0700: a spec may have taken its rights away
  local folder = C.opendir(path)
  if folder == nil then return end
  while true do
    local entry = C.readdir(folder)
    if entry == nil then break end
    local name = ffi.string(entry.name)
    if name ~= "." and name ~= ".." then
      local child = path .. "/" .. name
      if entry.type == DIRECTORY then remove_all(child) else C.unlink(child) end
    end
  end
  C.closedir(folder)
  C.rmdir(path)
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
  make_folders(path:match "^(.*)/")
  local file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
  return path
end

-- What is in a file, or what is behind its first `offset` bytes; nil: there is none.
function temp.read(path, offset)
  local file = io.open(path, "rb")
  if not file then return nil end
  if offset then file:seek("set", offset) end
  local content = file:read "*a"
  file:close()
  return content
end

function temp.remove(folder)
  if not folders[folder] then return end
  folders[folder] = nil
  remove_all(folder)
end

-- Lives as long as this module; its end removes what a failed spec has left.
temp.guard = newproxy(true)
getmetatable(temp.guard).__gc = function()
  for folder in pairs(folders) do remove_all(folder) end
end

return temp
