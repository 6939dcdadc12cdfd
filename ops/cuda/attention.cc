#include "ops/attention.h"

#include <absl/strings/str_cat.h>

#include "ops/cuda/cudnn/attention.h"
#include "ops/cuda/flash_attention.h"

namespace isthmus::cuda {

namespace {

void NoteStandIn(const absl::Status& why, const Context& context) {
  context.Note(absl::StrCat("attention runs on the project's own kernel: ", why.message()));
}

}  // namespace

absl::Status AttentionForward(const AttentionForwardArgs& args, const Context& context) {
  absl::Status fused = CudnnAttentionForward(args, context);
  if (!absl::IsUnimplemented(fused)) return fused;
  NoteStandIn(fused, context);
  return FlashAttentionForward(args, context);
}

absl::Status AttentionBackward(const AttentionBackwardArgs& args, const Context& context) {
  absl::Status fused = CudnnAttentionBackward(args, context);
  if (!absl::IsUnimplemented(fused)) return fused;
  NoteStandIn(fused, context);
  return FlashAttentionBackward(args, context);
}

}  // namespace isthmus::cuda
