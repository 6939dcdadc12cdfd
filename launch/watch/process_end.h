// Ends a process that must not go on, whatever its threads wait for. The exit status is 4 (runtime/exit_status.h).
#ifndef ISTHMUS_LAUNCH_WATCH_PROCESS_END_H_
#define ISTHMUS_LAUNCH_WATCH_PROCESS_END_H_

#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include <string>

#include "launch/watch/start_mark.h"

namespace isthmus {

// Ends the process at once. The last words go to standard error if it has room for them within a second.
[[noreturn]] void EndProcess(absl::string_view last_words);

// Ends the process after `delay` even if other ranks, libraries or file systems hold it up. Returns at once. Does
// nothing if no thread can be started.
void EndProcessLater(std::string last_words, absl::Duration delay);

// Ends the process if the folder has the mark of a later start. Called before this process writes to the folder. It may
// have been stopped while its job was ended, and another start may use the folder now.
void EndIfLeftOver(const RankOfStart& self);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_PROCESS_END_H_
