// Tokens as a device sees them.
#ifndef ISTHMUS_MODEL_TOKEN_BUFFER_H_
#define ISTHMUS_MODEL_TOKEN_BUFFER_H_

#include <absl/status/statusor.h>

#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class TokenBuffer {
 public:
  // `tokens` int32 [1, n] in host memory. Returns the same tokens on the stream's device: on the CPU `tokens` itself,
  // on a GPU a copy that holds until the next call. Memory grows with the longest n. Errors: ResourceExhausted.
  absl::StatusOr<Tensor> OnDevice(const Tensor& tokens, const Stream& stream);

 private:
  Arena memory_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TOKEN_BUFFER_H_
