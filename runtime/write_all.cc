#include "runtime/write_all.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace isthmus {
namespace {

// write(rest) returns what the system call does.
template <typename Write>
Written WriteEach(int descriptor, absl::string_view text, const Write& write) {
  Written done;
  while (done.bytes < static_cast<int64_t>(text.size())) {
    const ssize_t written = write(text.substr(static_cast<size_t>(done.bytes)), done.bytes);
    if (written > 0) {
      done.bytes += written;
    } else if (written == 0) {
      done.error = EIO;
      return done;
    } else if (errno == EAGAIN) {
      pollfd room{.fd = descriptor, .events = POLLOUT, .revents = 0};
      poll(&room, 1, /*timeout=*/-1);
    } else if (errno != EINTR) {
      done.error = errno;
      return done;
    }
  }
  return done;
}

}  // namespace

Written WriteAll(int descriptor, absl::string_view text) {
  return WriteEach(descriptor, text, [descriptor](absl::string_view rest, int64_t /*done*/) {
    return write(descriptor, rest.data(), rest.size());
  });
}

Written WriteAllAt(int descriptor, absl::string_view text, int64_t offset) {
  return WriteEach(descriptor, text, [descriptor, offset](absl::string_view rest, int64_t done) {
    return pwrite(descriptor, rest.data(), rest.size(), offset + done);
  });
}

}  // namespace isthmus
