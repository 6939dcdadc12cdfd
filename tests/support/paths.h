// The places of the program, its launcher and the sources' files for tests. They are as built, or as these environment
// variables say, so that test programs can be taken to another machine (tools/gpu-check).
#ifndef ISTHMUS_TESTS_SUPPORT_PATHS_H_
#define ISTHMUS_TESTS_SUPPORT_PATHS_H_

#include <string>

namespace isthmus::testing {

std::string SourceFolder();  // ISTHMUS_SOURCE_FOLDER: the folder with tests/golden
std::string ProgramPath();   // ISTHMUS_PROGRAM
std::string LauncherPath();  // ISTHMUS_MPIRUN
// ISTHMUS_PROGRAM_WITH_FAULTS: the program with tests/faults/fault_point.cc
std::string ProgramWithFaultsPath();

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_PATHS_H_
