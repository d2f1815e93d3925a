-- Errors of whoever misuses the kit: raised with the place in the test, however deep in here they
-- were found. What is the kit's, or the host's, is no file.
return function(format, ...)
  local text, level = format:format(...), 2
  local info = debug.getinfo(level, "Sl")
  while info do
    if info.source:sub(1, 1) == "@" and info.currentline > 0 then
      error(("%s:%d: %s"):format(info.source:sub(2), info.currentline, text), 0)
    end
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  error(text, 0)
end
