#include "launch/run/run_lock.h"

#include <absl/memory/memory.h>
#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "launch/watch/start_mark.h"
#include "runtime/durable_file.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(200);

// Returns 0, or errno. The lock belongs to the open file: one of the process would be lost when anything in it closes
// the file.
int TryLock(int descriptor) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  while (fcntl(descriptor, F_OFD_SETLK, &whole) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

// Returns "host H, process P, since T", as the holder wrote it.
std::string Holder(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t got = pread(descriptor, text.data(), text.size(), 0);
  std::string holder(text.data(), got > 0 ? static_cast<size_t>(got) : 0);
  absl::StripAsciiWhitespace(&holder);
  return holder.empty() ? "which does not say its name" : holder;
}

// The text says who holds the lock; it is not the lock, and may fail.
void SayHolder(int descriptor) {
  const std::string text = MarkOfThisProcess().Describe() + "\n";
  if (pwrite(descriptor, text.data(), text.size(), 0) < 0) return;
  if (ftruncate(descriptor, static_cast<off_t>(text.size())) != 0) return;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunLock>> RunLock::Take(const std::string& folder, const Waiting& waiting) {
  for (const std::string& path : {folder, folder + "/log"}) ISTHMUS_RETURN_IF_ERROR(MakeFolder(path));
  const std::string path = folder + "/log/lock";
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return FileError(path, "can't open the run's lock", errno);
  auto lock = absl::WrapUnique(new RunLock(descriptor, ""));
  const absl::Duration begin = MonotonicNow();
  bool noted = false;
  for (int error = 0; (error = TryLock(descriptor)) != 0;) {
    if (error != EAGAIN && error != EACCES) {
      // The error is ENOLCK, EOPNOTSUPP, ENOSYS or EINVAL, depending on the file system.
      lock->warning_ = absl::StrCat(path, ": the file system can't lock it (", std::strerror(error),
                                    "): nothing stops a second run in this folder");
      return lock;
    }
    const std::string other = absl::StrCat(folder, ": another run (", Holder(descriptor), ") is writing here");
    if (MonotonicNow() - begin >= waiting.patience) {
      return absl::FailedPreconditionError(absl::StrCat(other, "; wait for its end, or set `folder` to another one"));
    }
    if (waiting.stop()) return absl::CancelledError(absl::StrCat("stopped by a signal: ", other));
    if (!std::exchange(noted, true)) waiting.note(absl::StrCat(other, "; waiting for its end"));
    absl::SleepFor(kPoll);
  }
  SayHolder(descriptor);
  return lock;
}

RunLock::~RunLock() { close(descriptor_); }

}  // namespace isthmus
