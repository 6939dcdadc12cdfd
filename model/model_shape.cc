#include "model/model_shape.h"

namespace isthmus {

ModelShape ModelShape::From(const proto::ModelConfig& config) {
  ModelShape shape;
  shape.vocabulary = config.vocabulary();
  shape.width = config.width();
  shape.layers = config.layers();
  shape.heads = config.heads();
  shape.kv_heads = config.kv_heads();
  shape.head_dim = config.head_dim();
  shape.feed_forward = config.feed_forward();
  shape.rope_theta = config.rope_theta();
  shape.norm_epsilon = config.norm_epsilon();
  shape.init_std = config.init_std();
  return shape;
}

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
