// Forms the logit gradient of tokens that lie in memory, a chunk at a time, in fp64. Every rank of a tensor group forms
// that of its rows of the vocabulary.
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_CHUNK_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_CHUNK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/tensor_head.h"
#include "model/measure/tensor_scales.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// At most this many logits of one shard exist at once.
inline constexpr int64_t kChunkLogits = int64_t{1} << 23;

class TensorChunk {
 public:
  // `tensors`, `head` and `tensor` must outlive the chunk. `tensor` is the head's group.
  TensorChunk(const HeadTensors& tensors, const TensorHead& head, Communicator& tensor);

  // Returns how many tokens a chunk has at most; the same on all ranks.
  int64_t capacity() const { return capacity_; }

  struct Loss {
    Matrix loss, log_sum_exp;  // [1, C]
    Matrix energy;             // [tensor ranks, C], of the gradient of each token's own loss
  };
  // Forms the gradient of the mean loss over all tokens by the logits of the C tokens of `input` (TensorHead::Input).
  // `targets` is int32 [1, C]. `first_token` is the chunk's place among all tokens. Collective over the tensor group.
  // Errors: those of collectives.
  absl::StatusOr<Loss> Form(const Matrix& input, const ConstTensor& targets, int64_t first_token);
  // Returns the C tokens' gradient by the logits of this rank's shard `shard` [C, V_i], until the next call of Form.
  Tensor gradient(size_t shard, int64_t tokens) { return TensorOf(logits_[shard]).RowSlice(0, tokens); }

  // A number that is not finite is noted, and reported when all ranks are through. So no rank waits alone in a
  // collective. Collective over both groups. Errors: InvalidArgument, naming row and column, if a logit or a token's
  // loss was not finite.
  absl::Status ExpectFinite(Communicator& data) const;

 private:
  const HeadTensors& tensors_;
  const TensorHead& head_;
  Communicator& tensor_;
  int64_t capacity_ = 0;
  Stream stream_;
  std::vector<Matrix> logits_;  // of each shard [capacity, V_i], then their gradient
  NonFinite bad_logit_, bad_loss_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_CHUNK_H_
