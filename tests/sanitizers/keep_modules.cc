#include <dlfcn.h>

// Stands before the C library's function in programs of the `asan` preset, so that no module is ever unloaded. Open MPI
// closes its components before the process ends, and they still hold memory. The leak sanitizer would not know who
// points to it. Nor would it know the library that asked for it, by whose name its list of suppressions (lsan.supp)
// goes.
extern "C" __attribute__((visibility("default"))) int dlclose(void* /*module*/) noexcept { return 0; }
