// All ranks of a multi-process test.
#ifndef ISTHMUS_TESTS_SUPPORT_MPI_WORLD_H_
#define ISTHMUS_TESTS_SUPPORT_MPI_WORLD_H_

#include "parallel/communicator.h"

namespace isthmus::testing {

// The world of a program with the main of tests/mpi_main.cc. It lives as long as the process: that main finalises MPI.
Communicator& World();

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_MPI_WORLD_H_
