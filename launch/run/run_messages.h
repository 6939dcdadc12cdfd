// Brings a run's messages to people: in this rank's log, and on rank 0's progress display.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_MESSAGES_H_
#define ISTHMUS_LAUNCH_RUN_RUN_MESSAGES_H_

#include <memory>
#include <string>
#include <utility>

#include "proto/telemetry.pb.h"
#include "runtime/log.h"
#include "runtime/telemetry/progress.h"

namespace isthmus {

class RunMessages {
 public:
  // `display` is null on ranks other than 0.
  RunMessages(std::shared_ptr<Log> log, std::unique_ptr<Progress> display)
      : log_(std::move(log)), display_(std::move(display)) {}

  Log& log() { return *log_; }
  // Shows a line that stays, on the display alone.
  void Show(const std::string& text);
  // Warns in the log, and shows the same line.
  void Say(const std::string& text);
  // Logs the line. The log can't take it if the disk is full: then it is shown instead.
  void Note(const std::string& text);
  // Shows a step's record, with the time left by the speed so far, on the display alone.
  void Update(const proto::TelemetryRecord& record, double remaining_seconds, bool last);

 private:
  std::shared_ptr<Log> log_;
  std::unique_ptr<Progress> display_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_MESSAGES_H_
