#include "runtime/telemetry/progress.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>

namespace isthmus {
namespace {

std::string Duration(double seconds) {
  const auto total = static_cast<int64_t>(std::clamp(std::ceil(seconds), 0.0, 1e9));
  if (total >= 3600) return absl::StrFormat("%d:%02d:%02d", total / 3600, total / 60 % 60, total % 60);
  return absl::StrFormat("%d:%02d", total / 60, total % 60);
}

}  // namespace

Progress::Progress(std::ostream& out, bool terminal, int64_t steps, double plain_seconds)
    : out_(out), terminal_(terminal), steps_(steps), plain_seconds_(plain_seconds) {}

Progress::~Progress() {
  if (line_open_) out_ << std::endl;
}

std::string Progress::Line(const proto::TelemetryRecord& record, double remaining_seconds) const {
  const auto& train = record.train();
  std::string line = absl::StrFormat("step %d/%d  loss %.4f", record.step(), steps_, train.loss());
  if (validation_loss_ >= 0) absl::StrAppendFormat(&line, "  validation %.4f", validation_loss_);
  if (lost_ratio_ >= 0) absl::StrAppendFormat(&line, "  gradient lost %.1f %%", 100 * lost_ratio_);
  absl::StrAppendFormat(&line, "  %.0f tokens/s", train.tokens_per_second());
  if (train.has_causal_utilisation_ratio()) {
    absl::StrAppendFormat(&line, "  %.0f %% of peak", 100 * train.causal_utilisation_ratio());
  }
  absl::StrAppend(&line, "  ", Duration(remaining_seconds), " left");
  return line;
}

void Progress::Update(const proto::TelemetryRecord& record, double remaining_seconds, bool last) {
  if (record.has_head()) lost_ratio_ = record.head().has_lost_norm_ratio() ? record.head().lost_norm_ratio() : -1;
  if (record.has_validation()) validation_loss_ = record.validation().loss();
  if (terminal_) {
    // The text is a carriage return, the line, and the code that clears to the end of the line.
    out_ << '\r' << Line(record, remaining_seconds) << "\x1b[K" << std::flush;
    line_open_ = true;
    return;
  }
  const bool due = record.elapsed_seconds() - last_plain_ >= plain_seconds_;
  if (!due && !last && !record.has_validation()) return;
  last_plain_ = record.elapsed_seconds();
  out_ << Line(record, remaining_seconds) << std::endl;
}

void Progress::Note(const std::string& text) {
  if (line_open_) out_ << '\n';
  line_open_ = false;
  out_ << text << std::endl;
}

}  // namespace isthmus
