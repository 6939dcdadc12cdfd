#include "model/transformer.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"
#include "runtime/trace_range.h"

namespace isthmus {
namespace {

ActivationShape ActivationShapeOf(const ModelShape& model, const TensorShard& shard, DType type,
                                  const Transformer::Options& options, Device device) {
  ActivationShape shape;
  shape.model = model;
  shape.shard = shard;
  shape.type = type;
  shape.sequence_parallel = options.sequence_parallel && shard.ranks > 1;
  shape.recompute = options.recompute;
  shape.fp8 = options.fp8;
  shape.training = options.training;
  shape.device = device;
  shape.batch = {options.sequences, options.sequence_length, 0};
  shape.batch.local_tokens = shape.batch.tokens() / (shape.sequence_parallel ? shard.ranks : 1);
  return shape;
}

}  // namespace

ArenaLayout Transformer::ActivationLayout(const ModelShape& shape, const TensorShard& shard, DType type,
                                          const Options& options, Device device) {
  TensorPlacer placer;
  PlaceActivations(ActivationShapeOf(shape, shard, type, options, device), placer);
  return placer.layout();
}

Transformer::Transformer(const ModelShape& shape, const ParameterStore& parameters, Communicator& tensor,
                         const Options& options, Stream& stream)
    : options_(options),
      parameters_(parameters),
      context_{.shape = shape,
               .shard = TensorShard::Of(shape, tensor.rank(), tensor.size()),
               .batch = {},
               .type = parameters.compute_type(),
               .region = TensorRegion(tensor, options.sequence_parallel),
               .stream = &stream,
               .rope_table = {},
               .scratch = {}} {}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelShape& shape,
                                                                 const ParameterStore& parameters, Communicator& tensor,
                                                                 const Options& options, Stream& stream) {
  auto transformer = absl::WrapUnique(new Transformer(shape, parameters, tensor, options, stream));
  BlockContext& context = transformer->context_;
  const ActivationShape activation_shape =
      ActivationShapeOf(shape, context.shard, context.type, options, stream.device());
  const int64_t bytes = ActivationLayout(shape, context.shard, context.type, options, stream.device()).bytes();
  ISTHMUS_ASSIGN_OR_RETURN(transformer->arena_, Arena::Allocate("activations", bytes, stream.device()));
  TensorPlacer placer(&transformer->arena_);
  transformer->activations_ = PlaceActivations(activation_shape, placer);
  context.batch = activation_shape.batch;
  context.scratch = transformer->activations_.scratch;
  context.rope_table = transformer->activations_.rope_table;
  ISTHMUS_RETURN_IF_ERROR(FillRopeTable(shape.rope_theta, shape.head_dim, context.rope_table, stream));
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::string prefix = absl::StrCat("layers.", layer, ".");
    transformer->attention_.emplace_back(context, parameters, prefix);
    transformer->feed_forward_.emplace_back(context, parameters, prefix);
  }
  return transformer;
}

absl::Status Transformer::Forward(const Tensor& ids) {
  const TensorRegion& region = context_.region;
  Stream& stream = *context_.stream;
  const Tensor embedded = activations_.layers.front().attention.x;
  const Tensor partial = region.sequence_parallel() ? context_.scratch.branch : embedded;
  ISTHMUS_RETURN_IF_ERROR(EmbeddingForward({.ids = ids,
                                            .table = parameters_.Weight("embedding.weight"),
                                            .first_row = context_.shard.vocabulary.begin,
                                            .y = partial},
                                           stream));
  ISTHMUS_RETURN_IF_ERROR(region.Leave(partial, embedded));

  Tensor residual = embedded;
  Tensor addend;
  for (size_t layer = 0; layer < attention_.size(); ++layer) {
    const TraceRange range(stream, "layer forward", static_cast<int64_t>(layer));
    const LayerSaved& saved = activations_.layers[layer];
    ISTHMUS_RETURN_IF_ERROR(attention_[layer].Forward(residual, addend, saved.attention));
    addend = region.LocalPart(context_.scratch.branch);
    ISTHMUS_RETURN_IF_ERROR(feed_forward_[layer].Forward(saved.attention.x, addend, saved.feed_forward));
    residual = saved.feed_forward.x;
  }
  FaultPoint("step.activations", addend, stream);
  const Tensor normed = region.LocalPart(context_.scratch.normed);
  ISTHMUS_RETURN_IF_ERROR(RmsNormForward({.x = residual,
                                          .addend = addend,
                                          .sum = activations_.final_x,
                                          .weight = parameters_.Weight("final_norm.weight"),
                                          .y = normed,
                                          .inverse = activations_.final_inverse,
                                          .epsilon = context_.shape.norm_epsilon},
                                         stream));
  return region.Enter(normed, context_.scratch.normed);
}

std::vector<NamedTensor> Transformer::SavedTensors() const {
  std::vector<NamedTensor> tensors;
  for (size_t layer = 0; layer < activations_.layers.size(); ++layer) {
    const LayerSaved& saved = activations_.layers[layer];
    const auto add = [&](const char* name, const Tensor& tensor) {
      tensors.push_back({absl::StrCat("layers.", layer, ".", name), tensor});
    };
    if (options_.recompute) {
      const bool last = layer + 1 == activations_.layers.size();
      if (layer == 0) add("attention.x", saved.attention.x);
      add("output", last ? activations_.final_x : activations_.layers[layer + 1].attention.x);
      continue;
    }
    add("attention.x", saved.attention.x);
    add("attention_norm.inverse", saved.attention.inverse);
    add("attention.qkv", saved.attention.qkv);
    add("attention.out", saved.attention.out);
    add("feed_forward.x", saved.feed_forward.x);
    add("feed_forward_norm.inverse", saved.feed_forward.inverse);
  }
  tensors.push_back({"final_norm.x", activations_.final_x});
  tensors.push_back({"final_norm.inverse", activations_.final_inverse});
  return tensors;
}

absl::Status Transformer::LayerBackward(int64_t layer) {
  const TraceRange range(*context_.stream, "layer backward", layer);
  const LayerSaved& saved = activations_.layers[static_cast<size_t>(layer)];
  const AttentionBlock& attention = attention_[static_cast<size_t>(layer)];
  const FeedForwardBlock& feed_forward = feed_forward_[static_cast<size_t>(layer)];
  if (options_.recompute) {
    ISTHMUS_RETURN_IF_ERROR(attention.Forward(saved.attention.x, Tensor(), saved.attention));
    const Tensor addend = context_.region.LocalPart(context_.scratch.branch);
    ISTHMUS_RETURN_IF_ERROR(feed_forward.ForwardSavedOnly(saved.attention.x, addend, saved.feed_forward));
  }
  ISTHMUS_RETURN_IF_ERROR(feed_forward.Backward(activations_.grad_stream, saved.feed_forward));
  return attention.Backward(activations_.grad_stream, saved.attention);
}

absl::Status Transformer::Backward(const Tensor& ids, const SegmentReady& segment_ready, const Observation& observed) {
  const TensorRegion& region = context_.region;
  Stream& stream = *context_.stream;
  const auto observe = [&](int64_t layer) {
    if (!observed.layer_squares.defined()) return absl::OkStatus();
    return AddSumOfSquares(activations_.grad_stream, observed.layer_squares.ColumnSlice(layer, 1), stream);
  };
  const auto segment_done = [&](int segment, std::string_view first_norm, std::string_view last_norm) -> absl::Status {
    if (!segment_ready) return absl::OkStatus();
    const ParameterTable& table = parameters_.table();
    ISTHMUS_RETURN_IF_ERROR(ReduceNormGradients(table.Find(first_norm), table.Find(last_norm)));
    return segment_ready(segment);
  };

  ISTHMUS_RETURN_IF_ERROR(RmsNormBackward({.grad_y = region.LocalPart(grad_hidden()),
                                           .x = activations_.final_x,
                                           .weight = parameters_.Weight("final_norm.weight"),
                                           .inverse = activations_.final_inverse,
                                           .grad_x = activations_.grad_stream,
                                           .grad_weight = parameters_.Gradient("final_norm.weight"),
                                           .workspace = context_.scratch.norm_workspace,
                                           .accumulate = false},
                                          stream));
  const int64_t layers = context_.shape.layers;
  ISTHMUS_RETURN_IF_ERROR(observe(layers));
  ISTHMUS_RETURN_IF_ERROR(segment_done(static_cast<int>(layers) + 1, "final_norm.weight", "final_norm.weight"));
  for (int64_t layer = layers - 1; layer >= 0; --layer) {
    ISTHMUS_RETURN_IF_ERROR(LayerBackward(layer));
    ISTHMUS_RETURN_IF_ERROR(observe(layer));
    const std::string prefix = absl::StrCat("layers.", layer, ".");
    ISTHMUS_RETURN_IF_ERROR(segment_done(static_cast<int>(layer) + 1, prefix + "attention_norm.weight",
                                         prefix + "feed_forward_norm.weight"));
  }

  const Tensor grad_embedded = region.sequence_parallel() ? context_.scratch.grad_full : activations_.grad_stream;
  ISTHMUS_RETURN_IF_ERROR(region.Enter(activations_.grad_stream, grad_embedded));
  for (const Tensor& table : {parameters_.Gradient("embedding.weight"), observed.embedding_gradient}) {
    if (!table.defined()) continue;
    ISTHMUS_RETURN_IF_ERROR(EmbeddingBackward({.ids = ids,
                                               .grad_y = grad_embedded,
                                               .first_row = context_.shard.vocabulary.begin,
                                               .grad_table = table,
                                               .workspace = activations_.embedding_workspace},
                                              stream));
  }
  return segment_ready ? segment_ready(0) : absl::OkStatus();
}

absl::Status Transformer::ReduceNormGradients(int first_spec, int last_spec) {
  if (!context_.region.sequence_parallel()) return absl::OkStatus();
  // The norms of a layer are neighbours in the arena; the padding between them is zero on every rank.
  const ParameterSpec& first = parameters_.specs()[static_cast<size_t>(first_spec)];
  const ParameterSpec& last = parameters_.specs()[static_cast<size_t>(last_spec)];
  const Tensor begin = parameters_.Gradient(first_spec);
  const int64_t size = last.offset + last.local_size() - first.offset;
  return context_.region.tensor().AllReduce(Tensor(begin.data, begin.dtype, 1, size));
}

}  // namespace isthmus
