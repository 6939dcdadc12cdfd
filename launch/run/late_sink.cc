#include "launch/run/late_sink.h"

#include <utility>

#include "runtime/status.h"

namespace isthmus {

LateSink::LateSink(std::string name, Open open) : name_(std::move(name)), open_(std::move(open)) {}

absl::Status LateSink::Write(const proto::TelemetryRecord& record) {
  if (sink_ == nullptr) {
    ISTHMUS_ASSIGN_OR_RETURN(sink_, open_());
  }
  return sink_->Write(record);
}

absl::Status LateSink::Finish() { return sink_ == nullptr ? absl::OkStatus() : sink_->Finish(); }

}  // namespace isthmus
