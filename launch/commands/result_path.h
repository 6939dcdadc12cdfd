// Checks the path that an option of a command names for its result.
#ifndef ISTHMUS_LAUNCH_COMMANDS_RESULT_PATH_H_
#define ISTHMUS_LAUNCH_COMMANDS_RESULT_PATH_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <string>
#include <vector>

namespace isthmus {

struct CommandInputs {
  std::vector<std::string> files;    // files that the command reads; missing ones are for their readers to name
  std::vector<std::string> folders;  // run folders and checkpoints that it reads
};

// Checks before the work whether the result can go to `path` and destroys nothing there. `option` is for messages. A
// run folder may take a result (RUN/report.html), but not in place of a file that the program itself writes. These are
// its records, its configuration, all of checkpoints/ and log/, and dumped arrays. Links are followed, and hard links
// are found.
//
// Errors: those of CheckOutput (runtime/durable_file.h); InvalidArgument if `path` leads to a file of `inputs`, or to a
// run's own file.
absl::Status CheckResultPath(absl::string_view option, const std::string& path, const CommandInputs& inputs);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_RESULT_PATH_H_
