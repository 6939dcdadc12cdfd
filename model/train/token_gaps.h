// Counts the steps that lie between occurrences of a token. Adam's second moment forgets with the rate 1 - β₂: if a row
// of the head meets its own token rarely, κ = gap·(1 - β₂) says how much is forgotten in between (arXiv:2609.37535).
#ifndef ISTHMUS_MODEL_TRAIN_TOKEN_GAPS_H_
#define ISTHMUS_MODEL_TRAIN_TOKEN_GAPS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/mesh.h"
#include "proto/telemetry.pb.h"
#include "runtime/tensor.h"

namespace isthmus {

// A token's gap is the mean number of steps from one step that has it among its targets to the next. Several occurrences
// in one step count once.
class TokenGaps {
 public:
  // `mesh` must outlive the object.
  TokenGaps(int64_t vocabulary, const Mesh& mesh);

  // Returns OK if `state` can be that of State after `step`. Errors: InvalidArgument, naming the token.
  static absl::Status CheckState(absl::Span<const int64_t> state, int64_t step);

  // Counts a step that was applied. `targets` are int32 in host memory, this data rank's. A step that is not above the
  // one before begins anew: training has gone back to its beginning. Most steps are only noted. Every 32 of them go over
  // the data group, a byte for each token of the vocabulary and step.
  absl::Status AddStep(int64_t step, const ConstTensor& targets);
  // Fills in the gaps of the whole cluster so far, on rank 0. `beta2` is that of the head's rows; none: their optimizer has no
  // second moment. Collective over the data group.
  absl::Status Fill(std::optional<double> beta2, proto::TokenGapRecord& record);

  // Returns what Restore takes, on rank 0, and nothing elsewhere: for each token the first and the last step that had
  // it, and the number of steps that did, [3·V]. Collective over the data group.
  absl::StatusOr<std::vector<int64_t>> State();
  // Goes on after `step` from `state`, [3·V], which CheckState has accepted and all ranks give. An empty one, of an older
  // checkpoint, counts from there.
  void Restore(absl::Span<const int64_t> state, int64_t step);

 private:
  struct Occurrences {
    int64_t first = 0, last = 0;  // steps
    int64_t steps = 0;            // that have the token
  };
  // Counts the noted steps. Collective.
  absl::Status Merge();

  const Mesh& mesh_;
  std::vector<Occurrences> occurrences_;  // by token
  int64_t last_step_ = 0;
  std::vector<int64_t> noted_;  // steps that are not counted yet
  std::vector<uint8_t> flags_;  // of those steps, one behind another: whether a token is among the targets
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_TOKEN_GAPS_H_
