// Finds out where a path that is to be written leads.
#ifndef ISTHMUS_RUNTIME_OUTPUT_TARGET_H_
#define ISTHMUS_RUNTIME_OUTPUT_TARGET_H_

#include <absl/status/statusor.h>
#include <sys/stat.h>

#include <string>

namespace isthmus {

struct OutputTarget {
  enum class Kind {
    kNew,         // nothing yet, in an existing folder
    kFile,        // a regular file
    kStream,      // a named pipe or a character device: written bytes are gone, and no file may take its place
    kDescriptor,  // an open file of this process: /dev/stdout, /dev/fd/3
  };
  Kind kind = Kind::kNew;
  std::string path;         // where the name is, after symbolic links
  bool may_replace = true;  // for a file: another one may take its name
  int descriptor = -1;      // of kDescriptor
  struct stat status {};    // of kFile and kStream
};

// Follows symbolic links, including those that lead to nothing. Changes nothing. Errors: FailedPrecondition for
// folders, sockets, block devices and links in a circle; NotFound if the folder is missing; by errno.
absl::StatusOr<OutputTarget> FindOutputTarget(const std::string& path);

// Returns the folder that holds the name, or "." for a bare name.
std::string FolderOf(const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_OUTPUT_TARGET_H_
