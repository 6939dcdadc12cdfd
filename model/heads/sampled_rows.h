// The rows of a vocabulary-sized matrix that a softmax over a few classes needs, gathered from it.
#ifndef ISTHMUS_MODEL_HEADS_SAMPLED_ROWS_H_
#define ISTHMUS_MODEL_HEADS_SAMPLED_ROWS_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>

#include "model/heads/vocabulary_product.h"
#include "model/linear.h"
#include "model/part_setting.h"
#include "parallel/shard.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// A rank has the classes that are among its rows of the vocabulary.
class SampledRows {
 public:
  // `setting` must outlive it.
  explicit SampledRows(const PartSetting& setting) : setting_(setting), product_(setting, setting.width) {}

  void Place(int64_t chunk, TensorPlacer& placer);

  // Gathers the rows of W that this rank has of `classes`: rows of the vocabulary, ascending. Waits for the stream.
  // `whole` is W [V_i, D] with its gradient.
  absl::Status Gather(absl::Span<const int32_t> classes, const Linear& whole, Stream& stream);
  // Adds their gradient to that of W.
  absl::Status AddGradient(const Linear& whole, Stream& stream) const;
  // Takes it from that of W instead.
  absl::Status TakeGradient(const Linear& whole, Stream& stream) const;

  // Returns this rank's part of the classes.
  Range classes() const { return classes_; }
  // Returns the product with the rows. Its gradient is theirs.
  const VocabularyProduct& product() const { return product_; }

 private:
  Range own() const { return setting_.Share(setting_.vocabulary); }
  Tensor ids() const { return ids_.ColumnSlice(0, classes_.size()); }

  const PartSetting& setting_;
  VocabularyProduct product_;
  Range classes_;
  Tensor ids_;              // int32 [1, V_i]: rows of the vocabulary
  Tensor rows_, gradient_;  // [V_i, D]
  Tensor workspace_;        // int32
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_SAMPLED_ROWS_H_
