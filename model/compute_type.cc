#include "model/compute_type.h"

namespace isthmus {

DType ComputeType(const proto::PrecisionConfig& config) {
  switch (config.compute()) {
    case proto::PrecisionConfig::BF16:
      return DType::kBFloat16;
    case proto::PrecisionConfig::FP64:
      return DType::kFloat64;
    case proto::PrecisionConfig::FP32:
      break;
  }
  return DType::kFloat32;
}

}  // namespace isthmus
