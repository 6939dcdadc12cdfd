// What a path that is to be written leads to.
#ifndef ISTHMUS_RUNTIME_OUTPUT_TARGET_H_
#define ISTHMUS_RUNTIME_OUTPUT_TARGET_H_

#include <absl/status/statusor.h>
#include <sys/stat.h>

#include <string>

namespace isthmus {

struct OutputTarget {
  enum class Kind {
    kNew,         // nothing, in a folder that is there
    kFile,        // a regular file
    kStream,      // a named pipe or a character device: what is written is gone, and nothing may take its place
    kDescriptor,  // an open file of this process: /dev/stdout, /dev/fd/3
  };
  Kind kind = Kind::kNew;
  std::string path;         // where the name is, symbolic links followed
  bool may_replace = true;  // of a file: another one may take its name
  int descriptor = -1;      // of kDescriptor
  struct stat status {};    // of kFile and kStream
};

// Follows symbolic links, those that lead to nothing included. Changes nothing. Errors: FailedPrecondition for folders,
// sockets, block devices and links in a circle; NotFound where the folder is missing; by errno.
absl::StatusOr<OutputTarget> FindOutputTarget(const std::string& path);

// The folder that holds the name; "." of a bare name.
std::string FolderOf(const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_OUTPUT_TARGET_H_
