// At the borders of a tensor-parallel region activations pass between two kinds of work. One is token-wise (norms,
// residual stream), the other is cut over features or heads. The sources are Megatron-LM, arXiv:1909.08053, figure 3;
// with sequence parallelism arXiv:2205.05198, figure 5.
//
// A full tensor [N, D] holds all tokens of the micro-batch. Its local part is the same tensor without sequence
// parallelism. With it the part is rows [rank · N/P, (rank + 1) · N/P) for P tensor ranks.
#ifndef ISTHMUS_MODEL_TENSOR_REGION_H_
#define ISTHMUS_MODEL_TENSOR_REGION_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "parallel/communicator.h"
#include "parallel/mesh.h"
#include "runtime/tensor.h"

namespace isthmus {

class TensorRegion {
 public:
  // `mesh` must outlive the region.
  TensorRegion(const Mesh& mesh, bool sequence_parallel)
      : tensor_(&mesh.tensor()),
        data_(&mesh.data()),
        sequence_parallel_(sequence_parallel && mesh.tensor_ranks() > 1) {}

  bool sequence_parallel() const { return sequence_parallel_; }
  Communicator& tensor() const { return *tensor_; }
  // The ranks that have the same part of the model and other tokens.
  Communicator& data() const { return *data_; }

  // Returns how many rows of a full tensor of `tokens` rows the local part has.
  int64_t LocalTokens(int64_t tokens) const { return sequence_parallel_ ? tokens / tensor_->size() : tokens; }
  Tensor LocalPart(const Tensor& full) const;

  // Passes from local to full: an all-gather under sequence parallelism. `local` may be LocalPart(full). Without
  // sequence parallelism it must be `full` itself and nothing happens. Its backward pass is Leave.
  absl::Status Enter(const Tensor& local, const Tensor& full) const;

  // Passes from partial sums on every rank to the local part of the whole sum. This is a reduce-scatter under sequence
  // parallelism, else an all-reduce in place (`local` is then `full`). Its backward pass is Enter. Wait completes it.
  absl::StatusOr<Ticket> StartLeave(const Tensor& full, const Tensor& local) const;
  absl::Status Leave(const Tensor& full, const Tensor& local) const;
  absl::Status Wait(Ticket ticket) const { return tensor_->Wait(ticket); }

 private:
  Communicator* tensor_;
  Communicator* data_;
  bool sequence_parallel_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TENSOR_REGION_H_
