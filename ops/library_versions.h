// Versions of the GPU libraries that the operators use, as found at run time; empty in a build without the library.
#ifndef ISTHMUS_OPS_LIBRARY_VERSIONS_H_
#define ISTHMUS_OPS_LIBRARY_VERSIONS_H_

#include <string>

namespace isthmus {

std::string CublasLtVersion();
std::string CudnnVersion();

}  // namespace isthmus

#endif  // ISTHMUS_OPS_LIBRARY_VERSIONS_H_
