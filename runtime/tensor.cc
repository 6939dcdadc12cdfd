#include "runtime/tensor.h"

#include <absl/strings/str_cat.h>

namespace isthmus {

std::string Tensor::Describe() const {
  return absl::StrCat(std::string(Name(dtype)), " [", rows, ", ", columns, "]",
                      contiguous() ? "" : absl::StrCat(" with row stride ", row_stride));
}

}  // namespace isthmus
