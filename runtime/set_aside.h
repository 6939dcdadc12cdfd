// Files that make room and stay.
#ifndef ISTHMUS_RUNTIME_SET_ASIDE_H_
#define ISTHMUS_RUNTIME_SET_ASIDE_H_

#include <absl/status/statusor.h>

#include <string>

namespace isthmus {

// Gives what has the name `path` the first free one of path.1, path.2, … and returns that. Errors: by errno.
absl::StatusOr<std::string> SetAside(const std::string& path);

// The same for a regular file, which keeps its own name beside the new one, until another file takes it, where the file
// system has hard links: there is no moment without one.
absl::StatusOr<std::string> NameAside(const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_SET_ASIDE_H_
