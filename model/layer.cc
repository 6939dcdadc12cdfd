#include "model/layer.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "runtime/status.h"
#include "runtime/trace_range.h"

namespace isthmus {

void Layer::Add(const std::string& name, std::unique_ptr<Norm> norm, std::unique_ptr<Block> block) {
  branches_.push_back({name, std::move(block), std::move(norm), Tensor()});
}

void Layer::Declare(ParameterBuilder& parameters) {
  parameters.set_prefix(prefix_);
  for (Branch& branch : branches_) branch.norm->Declare(parameters);
  for (Branch& branch : branches_) branch.block->Declare(parameters);
  parameters.set_prefix("");
}

void Layer::Bind(const ParameterStore& parameters) {
  for (Branch& branch : branches_) {
    branch.norm->Bind(parameters);
    branch.block->Bind(parameters);
  }
}

void Layer::PlaceTables(SharedTables& tables, TensorPlacer& placer) {
  for (Branch& branch : branches_) branch.block->PlaceTables(tables, placer);
}

int Layer::TakeAlternating(const Tensor (&streams)[2], int free) {
  for (Branch& branch : branches_) {
    branch.x = streams[free];
    free = 1 - free;
  }
  return free;
}

void Layer::PlaceStream(Branch& branch, TensorPlacer& placer) const {
  branch.x =
      placer.Place(absl::StrCat(prefix_, branch.name, ".x"), setting_->type, setting_->local_tokens(), setting_->width);
}

void Layer::PlaceSaved(TensorPlacer& placer) {
  for (size_t i = 0; i < branches_.size(); ++i) {
    Branch& branch = branches_[i];
    if (setting_->training && i > 0) PlaceStream(branch, placer);
    branch.norm->Place(prefix_, placer);
    branch.block->PlaceSaved(prefix_, placer);
  }
}

absl::Status Layer::Enter(const Branch& branch, const ResidualStream& in, const TensorRegion& region,
                          const LayerScratch& scratch, Stream& stream) const {
  const Tensor normed = region.LocalPart(scratch.normed);
  ISTHMUS_RETURN_IF_ERROR(branch.norm->Forward(in.x, in.addend, branch.x, normed, stream));
  return region.Enter(normed, scratch.normed);
}

absl::Status Layer::Run(const Branch& branch, const ResidualStream& in, bool output, const TensorRegion& region,
                        const LayerScratch& scratch, Stream& stream) const {
  const TraceRange range(stream, branch.name.c_str());
  ISTHMUS_RETURN_IF_ERROR(Enter(branch, in, region, scratch, stream));
  ISTHMUS_RETURN_IF_ERROR(branch.block->Forward(scratch.normed, output ? scratch.branch : Tensor(), stream));
  return output ? region.Leave(scratch.branch, region.LocalPart(scratch.branch)) : absl::OkStatus();
}

absl::StatusOr<ResidualStream> Layer::Forward(const ResidualStream& in, const TensorRegion& region,
                                              const LayerScratch& scratch, Stream& stream) const {
  ResidualStream residual = in;
  for (const Branch& branch : branches_) {
    ISTHMUS_RETURN_IF_ERROR(Run(branch, residual, /*output=*/true, region, scratch, stream));
    residual = {branch.x, region.LocalPart(scratch.branch)};
  }
  return residual;
}

absl::Status Layer::Recompute(const TensorRegion& region, const LayerScratch& scratch, Stream& stream) const {
  ResidualStream residual = {entrance(), Tensor()};
  for (const Branch& branch : branches_) {
    ISTHMUS_RETURN_IF_ERROR(Run(branch, residual, /*output=*/&branch != &branches_.back(), region, scratch, stream));
    residual = {branch.x, region.LocalPart(scratch.branch)};
  }
  return absl::OkStatus();
}

absl::Status Layer::Backward(const Tensor& grad_stream, const TensorRegion& region, const LayerScratch& scratch,
                             Stream& stream) const {
  if (setting_->recompute) ISTHMUS_RETURN_IF_ERROR(Recompute(region, scratch, stream));
  for (auto branch = branches_.rbegin(); branch != branches_.rend(); ++branch) {
    ISTHMUS_RETURN_IF_ERROR(BranchBackward(*branch, grad_stream, region, scratch, stream));
  }
  return absl::OkStatus();
}

absl::Status Layer::BranchBackward(const Branch& branch, const Tensor& grad_stream, const TensorRegion& region,
                                   const LayerScratch& scratch, Stream& stream) const {
  const TraceRange range(stream, branch.name.c_str());
  const Tensor grad_output = region.sequence_parallel() ? scratch.grad_full : grad_stream;
  ISTHMUS_RETURN_IF_ERROR(region.Enter(grad_stream, grad_output));
  // The normalised input is made again rather than kept. That costs one pass over memory, and saves N·D elements per
  // block.
  ISTHMUS_RETURN_IF_ERROR(Enter(branch, {branch.x, Tensor()}, region, scratch, stream));
  ISTHMUS_RETURN_IF_ERROR(branch.block->Backward(grad_output, scratch.normed, scratch.branch, stream));
  // Gradients of weights are computed while the input's gradient travels.
  const Tensor grad_normed = region.LocalPart(scratch.branch);
  ISTHMUS_ASSIGN_OR_RETURN(const Ticket ticket, region.StartLeave(scratch.branch, grad_normed));
  ISTHMUS_RETURN_IF_ERROR(branch.block->BackwardWeights(scratch.normed, stream));
  ISTHMUS_RETURN_IF_ERROR(region.Wait(ticket));
  return branch.norm->Backward(grad_normed, branch.x, grad_stream, /*accumulate=*/true, scratch.norm_workspace, stream);
}

std::vector<NamedTensor> Layer::Saved() const {
  std::vector<NamedTensor> tensors;
  for (const Branch& branch : branches_) {
    tensors.push_back({absl::StrCat(prefix_, branch.name, ".x"), branch.x});
    const NamedTensor norm = branch.norm->Saved();
    tensors.push_back({prefix_ + norm.name, norm.tensor});
    for (const NamedTensor& kept : branch.block->Saved()) tensors.push_back({prefix_ + kept.name, kept.tensor});
  }
  return tensors;
}

}  // namespace isthmus
