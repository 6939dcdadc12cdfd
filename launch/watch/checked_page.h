// A page is a small text that one process writes over and over while others read it.
#ifndef ISTHMUS_LAUNCH_WATCH_CHECKED_PAGE_H_
#define ISTHMUS_LAUNCH_WATCH_CHECKED_PAGE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <string>

namespace isthmus {

// Writes one line with its checksum in place, in pages of constant size, so that a disk that has filled up still takes
// it. Opens and closes the file each time, because a network file system shows the text to others only then. Errors: by
// errno.
absl::Status WriteCheckedPage(const std::string& path, absl::string_view line);
// Errors: by errno; DataLoss if the page is not whole, for example while it is being written.
absl::StatusOr<std::string> ReadCheckedPage(const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_CHECKED_PAGE_H_
