# Writes the C file behind init_files.h.
#   cmake -D OUTPUT=file.c -D "ENTRIES=set|path in the project|file;..." -P embed.cmake

set(arrays "")
set(rows "")
set(count 0)
foreach(entry IN LISTS ENTRIES)
  string(REPLACE "|" ";" parts "${entry}")
  list(GET parts 0 set)
  list(GET parts 1 path)
  list(GET parts 2 file)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  file(SIZE "${file}" size)
  string(APPEND arrays "static const unsigned char file_${count}[] = {\n${hex}0x00};\n")
  string(APPEND rows "    {\"${set}\", \"${path}\", (const char *)file_${count}, ${size}},\n")
  math(EXPR count "${count} + 1")
endforeach()

file(WRITE "${OUTPUT}" "#include \"cli/init/init_files.h\"\n\n${arrays}
const struct init_file init_files[] = {\n${rows}};\nconst int init_file_count = ${count};\n")
