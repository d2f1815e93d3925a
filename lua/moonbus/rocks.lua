--- Where `luarocks install --tree lua_modules --lua-version 5.1` puts modules: a tree beside the config file.
--- https://github.com/luarocks/luarocks/wiki/File-locations
local M = {}

local TREE = "lua_modules/share/lua/5.1/"

--- Adds the tree to the list of folders, as the last one, if it is there and not among them.
---@param lib string[]
---@param folder string of the config file; "" or with a slash at its end
function M.add(lib, folder)
  local path = folder .. TREE
  for _, known in ipairs(lib) do
    if known:gsub("/*$", "/") == path then return end
  end
  local handle = io.open(path) -- a folder, too, can be opened
  if not handle then return end
  handle:close()
  lib[#lib + 1] = path
end

--- The modules in C of such trees, for a state that has the whole library.
---@param lib string[]
function M.search_c(lib)
  for _, folder in ipairs(lib) do
    local tree = folder:match("^(.*)share/lua/5%.1/*$")
    local path = tree and tree .. "lib/lua/5.1/?.so"
    if path and not (";" .. package.cpath .. ";"):find(";" .. path .. ";", 1, true) then
      package.cpath = path .. ";" .. package.cpath
    end
  end
end

return M
