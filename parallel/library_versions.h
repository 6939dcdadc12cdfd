// Versions of the communication libraries, as found at run time; empty in a build without the library.
#ifndef ISTHMUS_PARALLEL_LIBRARY_VERSIONS_H_
#define ISTHMUS_PARALLEL_LIBRARY_VERSIONS_H_

#include <string>

namespace isthmus {

std::string MpiVersion();
std::string NcclVersion();

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_LIBRARY_VERSIONS_H_
