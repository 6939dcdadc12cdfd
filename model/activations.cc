#include "model/activations.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <string>

#include "ops/attention.h"
#include "ops/fp8_matmul.h"
#include "ops/rms_norm.h"

namespace isthmus {
namespace {

class Placement {
 public:
  Placement(const ActivationShape& shape, TensorPlacer& placer)
      : shape_(shape),
        placer_(placer),
        tokens_(shape.batch.tokens()),
        local_(shape.batch.local_tokens),
        width_(shape.model.width),
        query_(shape.shard.heads.size() * shape.model.head_dim),
        qkv_(query_ + 2 * shape.shard.kv_heads.size() * shape.model.head_dim),
        features_(shape.shard.feed_forward.size()),
        sum_type_(AccumulationType(shape.type)) {}

  Tensor Stream(std::string name) { return placer_.Place(std::move(name), shape_.type, local_, width_); }

  // All of a layer's saved tensors but attention.x.
  LayerSaved Saved(const std::string& prefix) {
    LayerSaved saved;
    saved.attention.inverse = placer_.Place(prefix + "attention.inverse", sum_type_, 1, local_);
    saved.attention.qkv = placer_.Place(prefix + "attention.qkv", shape_.type, tokens_, qkv_);
    saved.attention.out = placer_.Place(prefix + "attention.out", shape_.type, tokens_, query_);
    saved.attention.log_sum_exp = placer_.Place(prefix + "attention.log_sum_exp", sum_type_, shape_.batch.sequences,
                                                shape_.shard.heads.size() * shape_.batch.sequence_length);
    saved.feed_forward.x = Stream(prefix + "feed_forward.x");
    saved.feed_forward.inverse = placer_.Place(prefix + "feed_forward.inverse", sum_type_, 1, local_);
    saved.feed_forward.gate_up = placer_.Place(prefix + "feed_forward.gate_up", shape_.type, tokens_, 2 * features_);
    return saved;
  }

  BlockScratch Scratch() {
    const AttentionShape attention = {shape_.batch.sequences, shape_.batch.sequence_length, shape_.shard.heads.size(),
                                      shape_.shard.kv_heads.size(), shape_.model.head_dim};
    BlockScratch scratch;
    scratch.normed = placer_.Place("scratch.normed", shape_.type, tokens_, width_);
    scratch.branch = placer_.Place("scratch.branch", shape_.type, tokens_, width_);
    scratch.narrow = placer_.Place("scratch.narrow", shape_.type, tokens_, std::max(query_, features_));
    scratch.attention_workspace = placer_.Place("scratch.attention", DType::kUInt8, 1,
                                                AttentionWorkspaceBytes(attention, shape_.type, shape_.device));
    if (shape_.fp8) scratch.fp8 = Fp8();
    if (!shape_.training) return scratch;
    if (shape_.sequence_parallel) {
      scratch.grad_full = placer_.Place("scratch.grad_full", shape_.type, tokens_, width_);
    }
    scratch.wide = placer_.Place("scratch.wide", shape_.type, tokens_, qkv_);
    scratch.narrow2 = placer_.Place("scratch.narrow2", shape_.type, tokens_, features_);
    scratch.norm_workspace = placer_.Place("scratch.norm", sum_type_, RmsNormWorkspaceRows(local_), width_);
    return scratch;
  }

  Fp8Scratch Fp8() {
    struct Sizes {
      int64_t out, in;
    };
    int64_t features = 0, outputs = 0, weights = 0, workspace = 0;
    for (const auto [out, in] : {Sizes{qkv_, width_}, {width_, query_}, {2 * features_, width_}, {width_, features_}}) {
      features = std::max({features, out, in});
      outputs = std::max(outputs, out);
      weights = std::max(weights, out * in);
      // Of y, of the gradients of x and of W.
      workspace = std::max({workspace, Fp8MatmulWorkspaceBytes(tokens_, out, in, shape_.device),
                            Fp8MatmulWorkspaceBytes(tokens_, in, out, shape_.device),
                            Fp8MatmulWorkspaceBytes(out, in, tokens_, shape_.device)});
    }
    const auto place = [&](const char* name, DType type, int64_t size) { return placer_.Place(name, type, 1, size); };
    Fp8Scratch fp8;
    fp8.left = place("scratch.fp8_left", DType::kFloat8E4M3, tokens_ * features);
    fp8.right = place("scratch.fp8_right", DType::kFloat8E4M3, weights);
    if (shape_.training) fp8.gradient = place("scratch.fp8_gradient", DType::kFloat8E5M2, tokens_ * outputs);
    fp8.left_inverse = place("scratch.fp8_left_inverse", DType::kFloat32, 1);
    fp8.right_inverse = place("scratch.fp8_right_inverse", DType::kFloat32, 1);
    fp8.workspace = place("scratch.fp8_workspace", DType::kUInt8, workspace);
    return fp8;
  }

 private:
  const ActivationShape& shape_;
  TensorPlacer& placer_;
  int64_t tokens_, local_, width_, query_, qkv_, features_;
  DType sum_type_;
};

}  // namespace

Activations PlaceActivations(const ActivationShape& shape, TensorPlacer& placer) {
  Placement placement(shape, placer);
  Activations activations;
  const bool shared = shape.recompute || !shape.training;
  LayerSaved common;
  Tensor common_x;
  if (shared) common = placement.Saved("layer.");
  if (!shape.training) common_x = placement.Stream("layer.attention.x");
  for (int64_t layer = 0; layer < shape.model.layers; ++layer) {
    const std::string prefix = absl::StrCat("layers.", layer, ".");
    LayerSaved saved = shared ? common : placement.Saved(prefix);
    saved.attention.x = shape.training ? placement.Stream(prefix + "attention.x") : common_x;
    activations.layers.push_back(saved);
  }
  activations.final_x = placement.Stream("final_norm.x");
  activations.final_inverse =
      placer.Place("final_norm.inverse", AccumulationType(shape.type), 1, shape.batch.local_tokens);
  activations.rope_table =
      placer.Place("rope_table", AccumulationType(shape.type), shape.batch.sequence_length, shape.model.head_dim);
  if (shape.training) {
    activations.grad_stream = placement.Stream("grad_stream");
    activations.embedding_workspace = placer.Place("embedding", DType::kInt32, 1, 2 * shape.batch.tokens());
  }
  activations.scratch = placement.Scratch();
  return activations;
}

}  // namespace isthmus
