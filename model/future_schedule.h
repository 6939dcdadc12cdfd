// Says which later tokens a model also trains towards, and how much each counts in a step (model.head.future). Training
// predicts them by the same logits. Multi-token prediction as an auxiliary loss is that of Gloeckle et al. 2024,
// arXiv:2404.19737, who give each offset layers of its own.
//
// The target of offset k is the token k places after the ordinary one. Near the end of a sequence its last token takes
// the place of those beyond it. So nothing of neighbouring sequences is read, and the ordinary targets determine all.
#ifndef ISTHMUS_MODEL_FUTURE_SCHEDULE_H_
#define ISTHMUS_MODEL_FUTURE_SCHEDULE_H_

#include <absl/types/span.h>

#include <cstdint>
#include <string>
#include <vector>

#include "proto/config.pb.h"

namespace isthmus {

// More offsets than this are refused.
inline constexpr int kMostFutureOffsets = 8;

class FutureSchedule {
 public:
  // `config` must have passed CheckFuture.
  explicit FutureSchedule(const proto::HeadConfig& config) : stages_(config.future().begin(), config.future().end()) {}

  // Returns K, 0 if there are no later targets.
  int64_t offsets() const { return stages_.empty() ? 0 : stages_.front().weights_size(); }
  // Returns w_1 to w_K of a step. They are empty if all are 0: the step is then one without later targets.
  std::vector<double> WeightsAt(int64_t step) const;
  // Returns how many of a step's weights are not 0.
  int64_t CountAt(int64_t step) const;

 private:
  std::vector<proto::HeadFutureConfig> stages_;
};

// Works as HeadKind::check.
std::string CheckFuture(const proto::HeadConfig& config);

// Returns the targets of K offsets with the ordinary ones before them: [1 + K, n], row by row. Sequences of
// `sequence_length` tokens follow one another in `targets`.
std::vector<int32_t> WithFutureTargets(absl::Span<const int32_t> targets, int64_t sequence_length, int64_t offsets);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_FUTURE_SCHEDULE_H_
