#include "tests/support/paths.h"

#include <cstdlib>

namespace isthmus::testing {
namespace {

std::string FromEnvironment(const char* name, const char* as_built) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : as_built;
}

}  // namespace

// The definitions are those of tests/CMakeLists.txt.
std::string SourceFolder() { return FromEnvironment("ISTHMUS_SOURCE_FOLDER", ISTHMUS_SOURCE_FOLDER); }
std::string ProgramPath() { return FromEnvironment("ISTHMUS_PROGRAM", ISTHMUS_PROGRAM); }
std::string ProgramWithFaultsPath() {
  return FromEnvironment("ISTHMUS_PROGRAM_WITH_FAULTS", ISTHMUS_PROGRAM_WITH_FAULTS);
}
std::string LauncherPath() { return FromEnvironment("ISTHMUS_MPIRUN", ISTHMUS_MPIRUN); }

}  // namespace isthmus::testing
