#include "model/backbone.h"

#include <absl/strings/str_cat.h>

#include <cstddef>
#include <string>
#include <utility>

#include "model/blocks/blocks.h"
#include "model/families/family.h"
#include "ops/elementwise.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"
#include "runtime/trace_range.h"

namespace isthmus {
namespace {

// Returns the ranges of the arena whose gradients the tensor ranks have in parts. They are runs of neighbours with the
// padding between them, which is zero on every rank.
std::vector<Range> PartialGradients(const ParameterTable& table, int segment, bool sequence_parallel) {
  std::vector<Range> runs;
  bool adjacent = false;
  for (const ParameterSpec& spec : table.specs) {
    if (spec.segment != segment) continue;
    const bool partial = spec.sharding == Sharding::kReplicated &&
                         (spec.gradient == GradientPart::kOfShard ||
                          (spec.gradient == GradientPart::kOfLocalTokens && sequence_parallel));
    if (partial) {
      if (!adjacent) runs.push_back({spec.offset, spec.offset});
      runs.back().end = spec.offset + spec.local_size();
    }
    adjacent = partial;
  }
  return runs;
}

}  // namespace

Backbone::Backbone(const proto::ModelConfig& config, const PartSetting& setting)
    : setting_(setting), embedding_(setting) {
  const Family& family = *FindFamily(config.family());
  const auto make_norm = [&](const std::string& name) {
    return FindNorm(family.norm)->make({.name = name, .setting = setting});
  };
  for (int64_t l = 0; l < config.layers(); ++l) {
    auto layer = std::make_unique<Layer>(setting, absl::StrCat("layers.", l, "."));
    for (const BlockSlot& slot : family.blocks(config, l)) {
      layer->Add(slot.name, make_norm(slot.name + "_norm"),
                 FindBlock(slot.kind)->make(
                     {.name = slot.name, .config = config, .setting = setting, .options = slot.options}));
    }
    layers_.push_back(std::move(layer));
  }
  final_norm_ = make_norm("final_norm");
}

void Backbone::Declare(ParameterBuilder& parameters) {
  embedding_.Declare(parameters);
  parameters.EndSegment();
  for (const auto& layer : layers_) {
    layer->Declare(parameters);
    parameters.EndSegment();
  }
  final_norm_->Declare(parameters);
}

void Backbone::Place(TensorPlacer& placer) {
  const int64_t tokens = setting_.batch.tokens(), local = setting_.local_tokens(), width = setting_.width;
  const auto place_stream = [&](const std::string& name) { return placer.Place(name, setting_.type, local, width); };
  const auto place_full = [&](const std::string& name) { return placer.Place(name, setting_.type, tokens, width); };
  tables_ = SharedTables();
  for (const auto& layer : layers_) layer->PlaceTables(tables_, placer);

  if (setting_.training) {
    for (const auto& layer : layers_) layer->PlaceEntrance(placer);
  } else {
    const Tensor streams[] = {place_stream("residual stream"), place_stream("residual stream after a block")};
    int free = 0;
    for (const auto& layer : layers_) free = layer->TakeAlternating(streams, free);
  }
  const auto place_layer = [&](int64_t l) { layers_[static_cast<size_t>(l)]->PlaceSaved(placer); };
  const auto count = static_cast<int64_t>(layers_.size());
  if (setting_.recompute || !setting_.training) {
    placer.Share(count, place_layer);
  } else {
    for (int64_t l = 0; l < count; ++l) place_layer(l);
  }
  final_x_ = place_stream("final_norm.x");
  final_norm_->Place("", placer);
  embedding_.Place(placer);

  scratch_.normed = place_full("scratch.normed");
  scratch_.branch = place_full("scratch.branch");
  if (setting_.training) {
    grad_stream_ = place_stream("grad_stream");
    if (setting_.sequence_parallel) scratch_.grad_full = place_full("scratch.grad_full");
    scratch_.norm_workspace = final_norm_->PlaceWorkspace(placer);
  }
  // The hidden states live while no block runs.
  std::vector<std::function<void()>> groups = {[&] {
    hidden_ = place_full("hidden");
    if (setting_.training) grad_hidden_ = place_full("grad_hidden");
  }};
  for (const auto& layer : layers_) {
    for (int64_t b = 0; b < layer->blocks(); ++b) {
      groups.emplace_back([&placer, &layer, b] { layer->block(b).PlaceScratch(placer); });
    }
  }
  placer.Share(static_cast<int64_t>(groups.size()), [&](int64_t i) { groups[static_cast<size_t>(i)](); });
}

ArenaLayout Backbone::Layout() {
  TensorPlacer placer;
  Place(placer);
  return placer.layout();
}

absl::Status Backbone::Allocate(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) {
  parameters_ = &parameters;
  region_ = &region;
  stream_ = &stream;
  ISTHMUS_ASSIGN_OR_RETURN(arena_, Arena::Allocate("activations", Layout().bytes(), stream));
  TensorPlacer placer(&arena_);
  Place(placer);
  embedding_.Bind(parameters);
  for (const auto& layer : layers_) layer->Bind(parameters);
  final_norm_->Bind(parameters);
  return tables_.FillAll(stream);
}

absl::Status Backbone::Forward(const Tensor& ids) {
  const Tensor& embedded = layers_.front()->entrance();
  const Tensor partial = region_->sequence_parallel() ? scratch_.branch : embedded;
  {
    const TraceRange range(*stream_, "embedding");
    ISTHMUS_RETURN_IF_ERROR(embedding_.Forward(ids, partial, *stream_));
    ISTHMUS_RETURN_IF_ERROR(region_->Leave(partial, embedded));
  }

  ResidualStream residual = {embedded, Tensor()};
  for (size_t l = 0; l < layers_.size(); ++l) {
    const TraceRange range(*stream_, "layer forward", static_cast<int64_t>(l));
    ISTHMUS_ASSIGN_OR_RETURN(residual, layers_[l]->Forward(residual, *region_, scratch_, *stream_));
  }
  FaultPoint("step.activations", residual.addend, *stream_);
  const TraceRange range(*stream_, "final_norm");
  const Tensor normed = region_->LocalPart(hidden_);
  ISTHMUS_RETURN_IF_ERROR(final_norm_->Forward(residual.x, residual.addend, final_x_, normed, *stream_));
  return region_->Enter(normed, hidden_);
}

std::vector<NamedTensor> Backbone::SavedTensors() const {
  std::vector<NamedTensor> tensors;
  for (size_t l = 0; l < layers_.size(); ++l) {
    if (!setting_.recompute) {
      for (NamedTensor& saved : layers_[l]->Saved()) tensors.push_back(std::move(saved));
      continue;
    }
    if (l == 0) tensors.push_back(layers_[l]->Saved().front());
    const bool last = l + 1 == layers_.size();
    tensors.push_back({absl::StrCat("layers.", l, ".output"), last ? final_x_ : layers_[l + 1]->entrance()});
  }
  tensors.push_back({"final_norm.x", final_x_});
  tensors.push_back(final_norm_->Saved());
  return tensors;
}

double Backbone::FlopsPerToken(bool causal) const {
  double flops = 0;
  for (const auto& layer : layers_) {
    for (int64_t b = 0; b < layer->blocks(); ++b) flops += layer->block(b).ForwardFlopsPerToken(causal);
  }
  return 3 * flops;
}

absl::Status Backbone::EndSegment(int segment, const SegmentReady& segment_ready) const {
  if (!segment_ready) return absl::OkStatus();
  const TraceRange range(*stream_, "gradients");
  if (region_->tensor().size() > 1) {
    for (const Range& run : PartialGradients(parameters_->table(), segment, region_->sequence_parallel())) {
      ISTHMUS_RETURN_IF_ERROR(region_->tensor().AllReduce(parameters_->GradientsAt(run)));
    }
  }
  return segment_ready(segment);
}

absl::Status Backbone::EmbeddingBackward(const Tensor& ids, const Tensor& observed) {
  const TraceRange range(*stream_, "embedding");
  const Tensor grad_embedded = region_->sequence_parallel() ? scratch_.grad_full : grad_stream_;
  ISTHMUS_RETURN_IF_ERROR(region_->Enter(grad_stream_, grad_embedded));
  return embedding_.Backward(ids, grad_embedded, observed, *stream_);
}

absl::Status Backbone::Backward(const Tensor& ids, const SegmentReady& segment_ready, const Observation& observed) {
  const auto layers = static_cast<int64_t>(layers_.size());
  const auto observe = [&](int64_t layer) -> absl::Status {
    if (observed.layer_squares.defined()) {
      const Tensor total = observed.layer_squares.ColumnSlice(layer, 1);
      ISTHMUS_RETURN_IF_ERROR(AddSumOfSquares({.x = grad_stream_, .total = total}, *stream_));
    }
    if (!observed.stream.defined()) return absl::OkStatus();
    const Tensor& entrance = layer == layers ? final_x_ : layers_[static_cast<size_t>(layer)]->entrance();
    return observed.stream.Add(layer, entrance, *stream_);
  };
  {
    const TraceRange range(*stream_, "final_norm");
    ISTHMUS_RETURN_IF_ERROR(final_norm_->Backward(region_->LocalPart(grad_hidden_), final_x_, grad_stream_,
                                                  /*accumulate=*/false, scratch_.norm_workspace, *stream_));
  }
  ISTHMUS_RETURN_IF_ERROR(observe(layers));
  ISTHMUS_RETURN_IF_ERROR(EndSegment(static_cast<int>(layers) + 1, segment_ready));
  for (int64_t l = layers - 1; l >= 0; --l) {
    {
      const TraceRange range(*stream_, "layer backward", l);
      ISTHMUS_RETURN_IF_ERROR(layers_[static_cast<size_t>(l)]->Backward(grad_stream_, *region_, scratch_, *stream_));
    }
    ISTHMUS_RETURN_IF_ERROR(observe(l));
    ISTHMUS_RETURN_IF_ERROR(EndSegment(static_cast<int>(l) + 1, segment_ready));
  }
  ISTHMUS_RETURN_IF_ERROR(EmbeddingBackward(ids, observed.embedding_gradient));
  return EndSegment(0, segment_ready);
}

}  // namespace isthmus
