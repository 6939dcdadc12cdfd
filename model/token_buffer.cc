#include "model/token_buffer.h"

#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

ArenaLayout TokenBuffer::Layout(int64_t tokens, Device device) {
  ArenaLayout layout;
  if (device == Device::kCuda) layout.Add("tokens", DType::kInt32, 1, tokens);
  return layout;
}

absl::Status TokenBuffer::Reserve(int64_t tokens, Device device) {
  const int64_t bytes = Layout(tokens, device).bytes();
  if (memory_.bytes() >= bytes) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(memory_, Arena::Allocate("tokens of a step", bytes, device));
  return absl::OkStatus();
}

absl::StatusOr<Tensor> TokenBuffer::OnDevice(const Tensor& tokens, const Stream& stream) {
  if (stream.device() == Device::kCpu) return tokens;
  ISTHMUS_RETURN_IF_ERROR(Reserve(tokens.columns, stream.device()));
  const Tensor copy = memory_.At(0, tokens.dtype, 1, tokens.columns);
  ISTHMUS_RETURN_IF_ERROR(CopyFromHost(tokens, copy, stream));
  return copy;
}

}  // namespace isthmus
