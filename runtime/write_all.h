// Writes all bytes to a file descriptor.
#ifndef ISTHMUS_RUNTIME_WRITE_ALL_H_
#define ISTHMUS_RUNTIME_WRITE_ALL_H_

#include <absl/strings/string_view.h>

#include <cstdint>

namespace isthmus {

struct Written {
  int64_t bytes = 0;  // all of them, unless there is an error
  int error = 0;      // 0, or errno; EIO where the system takes no byte and gives no reason
};

// Goes on after signals and short writes. It waits for readers if another program, which shares the descriptor, has
// made it non-blocking.
Written WriteAll(int descriptor, absl::string_view text);
// Does the same to bytes [offset, offset + text.size()) of a file.
Written WriteAllAt(int descriptor, absl::string_view text, int64_t offset);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_WRITE_ALL_H_
