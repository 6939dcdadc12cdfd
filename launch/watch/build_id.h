// Tells which build of the program this is.
#ifndef ISTHMUS_LAUNCH_WATCH_BUILD_ID_H_
#define ISTHMUS_LAUNCH_WATCH_BUILD_ID_H_

#include <string>

namespace isthmus {

// Returns the linker's checksum of the program (its GNU build ID) in hexadecimal digits. It is the same for equal
// files, whatever their names, and another one after any change of their content. It is empty if the linker left none.
std::string BuildId();

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_BUILD_ID_H_
