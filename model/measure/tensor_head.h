// Prepares the head of tensors in memory for the decomposition in fp64. It is scaled if squares would overflow or
// vanish, and factored by a tall-skinny QR. U is the vocabulary-sized factor: W itself, or that of W = U E.
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_HEAD_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_HEAD_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/head_factor.h"
#include "model/measure/logit_gradient.h"
#include "model/measure/tensor_scales.h"
#include "parallel/communicator.h"
#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace isthmus {

struct HeadTensors;

class TensorHead {
 public:
  // This is one of this rank's shards of the vocabulary.
  struct Shard {
    Range rows;
    ConstTensor weight;  // [V_i, width] as given
    ConstTensor bias;    // [V_i, 1]; undefined: none
    Matrix scaled;       // U_s [V_i, width]; empty if not scaled
    Matrix basis;        // Q_i [V_i, k]: rows of an orthonormal basis, whose first `rank` columns span the head's
    ConstTensor factor() const { return scaled.size() > 0 ? TensorOf(scaled) : weight; }
    bool Owns(int32_t token) const { return token >= rows.begin && token < rows.end; }
  };

  // `tensors` and the memory that they view must outlive the head. Collective over `tensor`. Errors: those of
  // collectives.
  static absl::StatusOr<TensorHead> Make(const HeadTensors& tensors, const TensorScales& scales, Communicator& tensor);

  const std::vector<Shard>& shards() const { return shards_; }
  const HeadFactor& factor() const { return factor_; }
  int64_t rank() const { return factor_.rank; }
  int64_t width() const { return width_; }
  int64_t hidden_width() const { return hidden_width_; }
  bool has_down() const { return down_.size() > 0; }
  // Returns E_s [width, D]; empty for a plain head.
  const Matrix& down() const { return down_; }
  // Returns E with all rows scaled alike; empty if it is E_s.
  const Matrix& step_down() const { return step_down_; }

  // Returns what enters U for hidden [n, D] as given. Its product with the weights of LogitRowsOf, times
  // 2^LogitExponent, and the bias are the logits. For a plain head both are the given tensors: numbers that vanish in that product do not matter to a logit.
  Matrix Input(const Matrix& hidden) const;
  LogitRows LogitRowsOf(const Shard& shard) const { return {has_down() ? shard.factor() : shard.weight, shard.bias}; }
  int LogitExponent() const { return has_down() ? scales_.hidden + scales_.head : 0; }
  // Returns the matrix that the gradient of U is formed with, from H_s [n, D]. `input` is Input of the same tokens.
  Matrix GradientInput(const Matrix& hidden, const Matrix& input) const;

 private:
  TensorHead(const HeadTensors& tensors, const TensorScales& scales);

  TensorScales scales_;
  int64_t width_, hidden_width_;
  std::vector<Shard> shards_;
  HeadFactor factor_;
  Matrix down_, step_down_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_HEAD_H_
