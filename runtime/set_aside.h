// Renames files that have to make room but are kept.
#ifndef ISTHMUS_RUNTIME_SET_ASIDE_H_
#define ISTHMUS_RUNTIME_SET_ASIDE_H_

#include <absl/status/statusor.h>

#include <string>

namespace isthmus {

// Renames `path` to the first free name of path.1, path.2, … and returns that name. Errors: by errno.
absl::StatusOr<std::string> SetAside(const std::string& path);

// The same for a regular file. Where the file system has hard links, the file also keeps its own name until another
// file takes it, so that the name always exists.
absl::StatusOr<std::string> NameAside(const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_SET_ASIDE_H_
