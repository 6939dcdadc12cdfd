#include "runtime/cuda/error.h"

#include <absl/strings/str_cat.h>

namespace isthmus::cuda {

absl::Status Check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

}  // namespace isthmus::cuda
