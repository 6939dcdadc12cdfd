// The borders of a tensor-parallel region: where activations pass from token-wise work (norms, residual stream) to work
// that is cut over features or heads, and back (Megatron-LM, arXiv:1909.08053, figure 3; with sequence parallelism
// arXiv:2205.05198, figure 5).
//
// A full tensor [N, D] holds all tokens of the micro-batch. Its local part is the same tensor without sequence
// parallelism and rows [rank · N/T, (rank + 1) · N/T) with it.
#ifndef ISTHMUS_MODEL_TENSOR_REGION_H_
#define ISTHMUS_MODEL_TENSOR_REGION_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "parallel/communicator.h"
#include "runtime/tensor.h"

namespace isthmus {

class TensorRegion {
 public:
  TensorRegion(Communicator& tensor, bool sequence_parallel)
      : tensor_(&tensor), sequence_parallel_(sequence_parallel && tensor.size() > 1) {}

  bool sequence_parallel() const { return sequence_parallel_; }
  Communicator& tensor() const { return *tensor_; }

  // Rows of a full tensor of `tokens` rows that the local part has.
  int64_t LocalTokens(int64_t tokens) const { return sequence_parallel_ ? tokens / tensor_->size() : tokens; }
  Tensor LocalPart(const Tensor& full) const;

  // Local to full: all-gather under sequence parallelism. `local` may be LocalPart(full); without sequence parallelism
  // it must be `full` itself and nothing happens. Its backward pass is Leave.
  absl::Status Enter(const Tensor& local, const Tensor& full) const;

  // Partial sums on every rank to the local part of the whole sum: reduce-scatter under sequence parallelism, else
  // all-reduce in place (`local` is then `full`). Its backward pass is Enter. Complete with Wait.
  absl::StatusOr<Ticket> StartLeave(const Tensor& full, const Tensor& local) const;
  absl::Status Leave(const Tensor& full, const Tensor& local) const;
  absl::Status Wait(Ticket ticket) const { return tensor_->Wait(ticket); }

 private:
  Communicator* tensor_;
  bool sequence_parallel_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TENSOR_REGION_H_
