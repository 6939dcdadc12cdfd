#include "launch/watch/process_end.h"

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <poll.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <thread>
#include <utility>

#include "runtime/caught.h"
#include "runtime/exit_status.h"

namespace isthmus {

void EndProcess(absl::string_view last_words) {
  // A terminal or pipe that nobody reads must not delay the end. A pipe with room takes this much without a wait.
  const std::string text = absl::StrCat("isthmus: ", last_words, "\n").substr(0, PIPE_BUF);
  pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&room, 1, /*timeout=*/1000) == 1) {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  }
  std::_Exit(kExitRankFailed);
}

void EndProcessLater(std::string last_words, absl::Duration delay) {
  // If no thread can be started, the launcher's own time limit remains.
  Caught([&] {
    std::thread([words = std::move(last_words), delay] {
      absl::SleepFor(delay);
      EndProcess(words);
    }).detach();
    return absl::OkStatus();
  }).IgnoreError();
}

void EndIfLeftOver(const RankOfStart& self) {
  const auto found = ReadStartMark(self.folder);
  if (!found.ok() || !IsLater(*found, self.mark)) return;
  EndProcess(absl::StrCat("rank ", self.rank, ": ", self.folder, ": a later start of the run (", found->Describe(),
                          ") is there; this process, of the start of ", self.mark.since, ", is left over and ends"));
}

}  // namespace isthmus
