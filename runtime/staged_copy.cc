#include "runtime/staged_copy.h"

#include "runtime/cuda/event.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

StagedCopy::StagedCopy() = default;
StagedCopy::~StagedCopy() = default;

absl::Status StagedCopy::Start(absl::Span<const Tensor> tensors, const Stream& stream) {
  // A buffer that grows is freed: nothing may still be on its way there.
  ISTHMUS_RETURN_IF_ERROR(Wait().status());
  copies_.clear();
  buffers_.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& from = tensors[i];
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor to, buffers_[i].Room(from.dtype, from.rows, from.columns, stream));
    ISTHMUS_RETURN_IF_ERROR(StartCopyToHost(from, to, stream));
    copies_.push_back(to);
  }
  if (!stream.on_gpu()) return absl::OkStatus();
  if (passed_ == nullptr) passed_ = std::make_unique<cuda::Event>();
  return passed_->Record(stream.cuda());
}

absl::StatusOr<absl::Span<const Tensor>> StagedCopy::Wait() const {
  if (passed_ != nullptr) ISTHMUS_RETURN_IF_ERROR(passed_->Wait());
  return absl::MakeConstSpan(copies_);
}

}  // namespace isthmus
