// Renames files that have to make room but are kept.
#ifndef ISTHMUS_RUNTIME_SET_ASIDE_H_
#define ISTHMUS_RUNTIME_SET_ASIDE_H_

#include <absl/status/statusor.h>

#include <string>

namespace isthmus {

// Renames `path` to the first free name of path.1, path.2, … and returns that name. Errors: by errno.
absl::StatusOr<std::string> SetAside(const std::string& path);

// Does the same for a regular file, whose name the complete file `fresh` in the same folder takes. On file systems with
// hard links the name always exists. Errors: by errno. Both files have their old names then, or the message says where
// the old file is.
// old file is.
absl::StatusOr<std::string> SetAsideFor(const std::string& fresh, const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_SET_ASIDE_H_
