#include "model/token_buffer.h"

#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<Tensor> TokenBuffer::OnDevice(const Tensor& tokens, const Stream& stream) {
  if (stream.device() == Device::kCpu) return tokens;
  if (memory_.bytes() < tokens.bytes()) {
    ISTHMUS_ASSIGN_OR_RETURN(memory_, Arena::Allocate("tokens of a step", tokens.bytes(), stream.device()));
  }
  const Tensor copy = memory_.At(0, tokens.dtype, 1, tokens.columns);
  ISTHMUS_RETURN_IF_ERROR(CopyFromHost(tokens, copy, stream));
  return copy;
}

}  // namespace isthmus
