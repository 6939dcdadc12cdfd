#include "ops/cuda/cudnn/attention.h"
#include "ops/cuda/library_versions.h"

namespace isthmus::cuda {
namespace {

absl::Status Absent() { return absl::UnimplementedError("this program was built without cuDNN"); }

}  // namespace

absl::Status CudnnAttentionForward(const AttentionForwardArgs&, const Context&) { return Absent(); }
absl::Status CudnnAttentionBackward(const AttentionBackwardArgs&, const Context&) { return Absent(); }
int64_t CudnnVersionNumber() { return 0; }

}  // namespace isthmus::cuda
