--- require, for what may be loaded while a handler runs. That is ended by its memory or its CPU in the midst of
--- it, where no pcall outlives it: what it has half loaded, and what that has required, is loaded anew, and not
--- taken for a module that requires itself.

-- What require puts in the place of a module until it is loaded, as now in that of this one.
local LOADING = package.loaded[(...)]

return function(name)
  for each, module in pairs(package.loaded) do
    if module == LOADING then package.loaded[each] = nil end
  end
  return require(name)
end
