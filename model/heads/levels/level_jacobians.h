// How a softmax in two levels depends on one token's hidden state.
#ifndef ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_JACOBIANS_H_
#define ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_JACOBIANS_H_

#include <absl/status/status.h>

#include "model/heads/levels/two_levels.h"
#include "model/heads/token_jacobians.h"
#include "model/linear.h"
#include "ops/loss_form.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"

namespace isthmus {

// The logits of a token are those of the first level, then those of the tokens of its target's cluster. With r_c and
// u_v, their mean r̄ under the first level's probabilities, and ū_c under those of the second level:
//
//   ∂ log P(v | h)/∂h = r_c − r̄ + u_v − ū_c   for a token of cluster c
//   ∂ log P(v | h)/∂h = u_v − r̄               for one of the first level
//
// A soft cap scales each row by its slope first.
class LevelJacobians : public TokenJacobians {
 public:
  // clusters: R [C_i, D], tokens: U [V_i, D]. All references must outlive this object.
  LevelJacobians(const TwoLevels& levels, const LossForm& form, const Linear& clusters, const Linear& tokens,
                 Communicator& tensor, const Stream& stream)
      : levels_(levels), form_(form), clusters_(clusters), tokens_(tokens), tensor_(tensor), stream_(stream) {}

  absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) override;

 private:
  const TwoLevels& levels_;
  const LossForm form_;
  const Linear clusters_, tokens_;
  Communicator& tensor_;
  const Stream& stream_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_JACOBIANS_H_
