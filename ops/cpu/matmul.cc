#include "ops/cpu/kernels.h"

namespace isthmus::cpu {

absl::Status Matmul(const MatmulArgs&) { return absl::UnimplementedError("not written yet"); }

}  // namespace isthmus::cpu
