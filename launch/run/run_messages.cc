#include "launch/run/run_messages.h"

#include <cstdint>

namespace isthmus {

void RunMessages::Show(const std::string& text) {
  if (display_ != nullptr) display_->Note(text);
}

void RunMessages::Say(const std::string& text) {
  log_->Warning(text);
  Show(text);
}

void RunMessages::Note(const std::string& text) {
  const int64_t dropped = log_->dropped();
  log_->Info(text);
  if (log_->dropped() > dropped) Show(text);
}

void RunMessages::Update(const proto::TelemetryRecord& record, double remaining_seconds, bool last) {
  if (display_ != nullptr) display_->Update(record, remaining_seconds, last);
}

}  // namespace isthmus
