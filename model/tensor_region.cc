#include "model/tensor_region.h"

#include "runtime/status.h"

namespace isthmus {

Tensor TensorRegion::LocalPart(const Tensor& full) const {
  if (!sequence_parallel_) return full;
  const int64_t rows = LocalTokens(full.rows);
  return full.RowSlice(rows * tensor_->rank(), rows);
}

absl::Status TensorRegion::Enter(const Tensor& local, const Tensor& full) const {
  return sequence_parallel_ ? tensor_->AllGather(local, full) : absl::OkStatus();
}

absl::StatusOr<Ticket> TensorRegion::StartLeave(const Tensor& full, const Tensor& local) const {
  if (tensor_->size() == 1) return Ticket{};
  return sequence_parallel_ ? tensor_->StartReduceScatter(full, local) : tensor_->StartAllReduce(full, Reduction::kSum);
}

absl::Status TensorRegion::Leave(const Tensor& full, const Tensor& local) const {
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, StartLeave(full, local));
  return Wait(ticket);
}

}  // namespace isthmus
