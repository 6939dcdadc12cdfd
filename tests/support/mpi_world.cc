#include "tests/support/mpi_world.h"

#include <cstdlib>

namespace isthmus::testing {

Communicator& World() {
  static Communicator* const world = [] {
    auto runtime = MpiRuntime::Initialize();
    if (!runtime.ok()) std::abort();
    return (*runtime)->World().release();
  }();
  return *world;
}

}  // namespace isthmus::testing
