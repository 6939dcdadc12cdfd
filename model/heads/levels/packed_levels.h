// Holds the rows of a softmax in two levels in the order of TwoLevels, so that each level is one range of them.
#ifndef ISTHMUS_MODEL_HEADS_LEVELS_PACKED_LEVELS_H_
#define ISTHMUS_MODEL_HEADS_LEVELS_PACKED_LEVELS_H_

#include <absl/status/status.h>

#include <cstdint>

#include "model/heads/levels/two_levels.h"
#include "model/heads/vocabulary_product.h"
#include "model/linear.h"
#include "model/part_setting.h"
#include "parallel/shard.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Packed are this rank's clusters, then its tokens as TwoLevels::rows() orders them: [C_i + V_i, D].
class PackedLevels {
 public:
  // Both must outlive it.
  PackedLevels(const PartSetting& setting, const TwoLevels& levels)
      : setting_(setting), levels_(levels), product_(setting, setting.width) {}

  // `chunk`: tokens of one product at most.
  void Place(int64_t chunk, TensorPlacer& placer);
  // Takes R [C_i, D] and U [V_i, D] of this rank with their gradients. `stream` must outlive it.
  void Bind(const Linear& clusters, const Linear& tokens, Stream& stream);

  // Takes the parameters as they are now. Waits for the stream at the first call.
  absl::Status Pack();

  // Return packed rows: those of the clusters, of the first level, and of the tokens of one cluster.
  Range clusters() const { return {0, levels_.own_clusters().size()}; }
  Range first_level() const { return {0, levels_.own_clusters().size() + levels_.own_singles()}; }
  Range members(int64_t cluster) const;

  // Compute products with such rows, of which this rank may have none. logits [n, rows] = x [n, D] Wᵀ; grad_x [n, D] =
  // grad_logits W, this shard's part, and the gradient of the rows is added to that of the packed ones.
  absl::Status Forward(Range rows, const Tensor& x, const Tensor& logits) const;
  absl::Status Backward(Range rows, const Tensor& grad_logits, const Tensor& x, const Tensor& grad_x);

  // Forgets the gradient of the packed rows.
  absl::Status ResetGradient();
  // Adds it to those of the parameters.
  absl::Status AddGradient();

 private:
  // Brings the order to the device.
  absl::Status PlaceOrder();
  Tensor TokensOf(const Tensor& packed) const;

  const PartSetting& setting_;
  const TwoLevels& levels_;
  VocabularyProduct product_;
  Linear clusters_, tokens_;
  Stream* stream_ = nullptr;
  bool has_order_ = false;
  Tensor row_ids_, row_places_;      // int32 [1, V_i]: the row of each place, and the place of each row
  Tensor packed_, packed_gradient_;  // [C_i + V_i, D]
  Tensor found_gradient_;            // a block of the tokens' gradient in the order of the vocabulary
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_LEVELS_PACKED_LEVELS_H_
