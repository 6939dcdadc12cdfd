#include "runtime/tensor.h"

#include <absl/strings/str_cat.h>

namespace isthmus {

template <typename Void>
std::string BasicTensor<Void>::Describe() const {
  return absl::StrCat(std::string(Name(dtype)), " [", rows, ", ", columns, "]",
                      contiguous() ? "" : absl::StrCat(" with row stride ", row_stride));
}

template struct BasicTensor<void>;
template struct BasicTensor<const void>;

}  // namespace isthmus
