#include <dlfcn.h>

// Stands before the C library's in programs of the `asan` preset, so that no module is ever unloaded: Open MPI closes
// its components before the process ends. Of memory that they still hold the leak sanitizer then knows neither who
// points to it nor, for its list of suppressions (lsan.supp), the name of the library that asked for it.
extern "C" __attribute__((visibility("default"))) int dlclose(void* /*module*/) noexcept { return 0; }
