// The progress display: one line that is rewritten on a terminal, plain lines elsewhere.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_PROGRESS_H_
#define ISTHMUS_RUNTIME_TELEMETRY_PROGRESS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "proto/telemetry.pb.h"

namespace isthmus {

class Progress {
 public:
  // Plain lines come at least `plain_seconds` apart, but for records with a validation loss and the last step.
  Progress(std::ostream& out, bool terminal, int64_t steps, double plain_seconds = 10);
  ~Progress();

  // `remaining_seconds` is the time left by the speed so far.
  void Update(const proto::TelemetryRecord& record, double remaining_seconds, bool last);
  // Prints a line that stays.
  void Note(const std::string& text);

 private:
  std::string Line(const proto::TelemetryRecord& record, double remaining_seconds) const;

  std::ostream& out_;
  bool terminal_;
  int64_t steps_;
  double plain_seconds_;
  double last_plain_ = -1e300;
  bool line_open_ = false;
  double lost_ratio_ = -1;  // the last one measured
  double validation_loss_ = -1;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_PROGRESS_H_
