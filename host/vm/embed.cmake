# Writes the C file behind embedded.h.
#   cmake -D OUTPUT=file.c -D DIR=lua -D "FILES=moonbus/init.lua;..." -P embed.cmake

set(arrays "")
set(rows "")
set(count 0)
foreach(file IN LISTS FILES)
  string(REGEX REPLACE "(/init)?\\.lua$" "" name "${file}")
  string(REPLACE "/" "." name "${name}")
  file(READ "${DIR}/${file}" hex HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  file(SIZE "${DIR}/${file}" size)
  string(APPEND arrays "static const unsigned char source_${count}[] = {\n${hex}0x00};\n")
  string(APPEND rows "    {\"${name}\", (const char *)source_${count}, ${size}},\n")
  math(EXPR count "${count} + 1")
endforeach()

file(WRITE "${OUTPUT}" "#include \"vm/embedded.h\"\n\n${arrays}
const struct embedded_module embedded_modules[] = {\n${rows}    {0, 0, 0},\n};
const size_t embedded_module_count = ${count};\n")
