# Writes the bytes of INPUT as the array NAME of the C++ header OUTPUT.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "#pragma once\ninline constexpr unsigned char ${NAME}[] = {${bytes}};\n")
