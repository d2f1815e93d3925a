# Writes the C file behind page.h: the three files as they are.
#   cmake -D OUTPUT=file.c -D DIR=host/app/page -P embed.cmake

set(code "#include \"app/page.h\"\n\n")
foreach(part html css js)
  file(READ "${DIR}/page.${part}" hex HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  string(APPEND code "const unsigned char page_${part}[] = {\n${hex}0x00};\n")
endforeach()
file(WRITE "${OUTPUT}" "${code}")
