-- Inputs as lines of a file, and as libFuzzer wants them, a file each.
--
--   luajit fuzz/corpus.lua unpack FOLDER FILE...   what the lines of FILEs hold, into FOLDER
--   luajit fuzz/corpus.lua pack FOLDER FILE        writes FILE anew with what is in FOLDER
--
-- What a line looks like: see fuzz/replay.c.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "*a"
  file:close()
  return bytes
end

local function write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  assert(file:close())
end

local function escape(bytes)
  return (bytes:gsub('[%c\\\127-\255]', function(c)
    if c == "\n" then return "\\n" end
    if c == "\\" then return "\\\\" end
    return ("\\x%02x"):format(c:byte())
  end):gsub("^#", "\\x23"))
end

local function unescape(line)
  return (line:gsub("\\(x?)(.)(.?)", function(x, first, second)
    if x == "x" then return string.char(tonumber(first .. second, 16)) end
    return (first == "n" and "\n" or "\\") .. second
  end))
end

local function unpack_files(folder, paths)
  local number = 0
  for _, path in ipairs(paths) do
    for line in io.lines(path) do
      if line ~= "" and line:sub(1, 1) ~= "#" then
        number = number + 1
        write(("%s/%s-%04d"):format(folder, path:match "([^/]+)$", number), unescape(line))
      end
    end
  end
end

local function pack_folder(folder, path)
  local lines = {}
  local names = assert(io.popen(("ls '%s'"):format(folder)))
  for name in names:lines() do
    local bytes = read(folder .. "/" .. name)
    if bytes ~= "" then lines[#lines + 1] = escape(bytes) end
  end
  names:close()
  table.sort(lines)
  write(path, table.concat(lines, "\n") .. (#lines > 0 and "\n" or ""))
end

local command, folder = arg[1], arg[2]
if command == "unpack" and folder then
  unpack_files(folder, { select(3, unpack(arg)) })
elseif command == "pack" and folder and arg[3] then
  pack_folder(folder, arg[3])
else
  io.stderr:write "usage: luajit fuzz/corpus.lua unpack FOLDER FILE... | pack FOLDER FILE\n"
  os.exit(2)
end
