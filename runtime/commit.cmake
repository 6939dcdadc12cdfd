# Writes OUTPUT, a source with the commit that SOURCES are of. An unchanged file keeps its time, and nothing is built.
execute_process(COMMAND git -C "${SOURCES}" describe --always --dirty --exclude=* --abbrev=12
  OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
if(failed OR NOT commit MATCHES "^[0-9a-f]+(-dirty)?$")
  set(commit "")
endif()
set(text "#include \"runtime/commit.h\"\n\nnamespace isthmus {\n\nconst char* SourceCommit() { return \"${commit}\"; }\n\n}  // namespace isthmus\n")
set(found "")
if(EXISTS "${OUTPUT}")
  file(READ "${OUTPUT}" found)
endif()
if(NOT found STREQUAL text)
  file(WRITE "${OUTPUT}" "${text}")
endif()
