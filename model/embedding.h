// The table of token embeddings is vocabulary-parallel: every tensor rank has a range of its rows.
#ifndef ISTHMUS_MODEL_EMBEDDING_H_
#define ISTHMUS_MODEL_EMBEDDING_H_

#include <absl/status/status.h>

#include "model/parameter_builder.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class Embedding {
 public:
  // `setting` must outlive the embedding.
  explicit Embedding(const PartSetting& setting) : setting_(&setting) {}

  void Declare(ParameterBuilder& parameters);
  void Bind(const ParameterStore& parameters);
  void Place(TensorPlacer& placer);
  ParameterHandle parameter() const { return parameter_; }

  // Computes y [N, D], this rank's part: the rows of its tokens, zero for others'. ids is int32 [1, N].
  absl::Status Forward(const Tensor& ids, const Tensor& y, Stream& stream) const;
  // Adds to the table's gradient, and to `observed` [V_i, D], accumulation type, if it is defined.
  absl::Status Backward(const Tensor& ids, const Tensor& grad_y, const Tensor& observed, Stream& stream) const;

 private:
  const PartSetting* setting_;
  ParameterHandle parameter_;
  Tensor weight_, gradient_;  // [V_i, D]
  Tensor workspace_;          // int32
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_EMBEDDING_H_
