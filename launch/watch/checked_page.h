// A small text that one process writes over and over and others read meanwhile.
#ifndef ISTHMUS_LAUNCH_WATCH_CHECKED_PAGE_H_
#define ISTHMUS_LAUNCH_WATCH_CHECKED_PAGE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <string>

namespace isthmus {

// One line with its checksum, in pages of constant size that are written in place: a disk that has become full
// meanwhile still takes it. Opened and closed each time: that is when a network file system shows others what was
// written. Errors: by errno.
absl::Status WriteCheckedPage(const std::string& path, absl::string_view line);
// Errors: by errno; DataLoss for what is not whole, as while it is written.
absl::StatusOr<std::string> ReadCheckedPage(const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_CHECKED_PAGE_H_
