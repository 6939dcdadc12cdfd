// A layer of the backbone has blocks one after another, each with a norm before it. Their outputs are added to the
// residual stream.
//
//   x_{b+1} = x_b + block_b(norm_b(x_b))
//
// The layer crosses the borders of the tensor-parallel region: a block's input is gathered from the ranks' tokens, its
// output summed over the ranks (model/tensor_region.h). The next norm makes the sum x_b + output, so it is handed on as
// two addends.
#ifndef ISTHMUS_MODEL_LAYER_H_
#define ISTHMUS_MODEL_LAYER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/blocks/block.h"
#include "model/norm.h"
#include "model/part_setting.h"
#include "model/tensor_region.h"

namespace isthmus {

// All layers use this memory in turn. It holds nothing between their calls but `branch`, which carries a block's output
// to the next norm.
struct LayerScratch {
  Tensor normed;          // [N, D] a block's input
  Tensor branch;          // [N, D] a block's output; the gradient of its input
  Tensor grad_full;       // [N, D] gathered gradient; only under sequence parallelism
  Tensor norm_workspace;  // of the norms' backward pass
};

// The residual stream between blocks is x + addend, both [local tokens, D]. An undefined addend is zero.
struct ResidualStream {
  Tensor x, addend;
};

class Layer {
 public:
  // `prefix` begins all names: "layers.3.". `setting` must outlive the layer.
  Layer(const PartSetting& setting, std::string prefix) : setting_(&setting), prefix_(std::move(prefix)) {}
  // `name` is the block's in the layer. `norm` is the one at its entrance.
  void Add(const std::string& name, std::unique_ptr<Norm> norm, std::unique_ptr<Block> block);

  // Declares the norms, then the blocks' parameters.
  void Declare(ParameterBuilder& parameters);
  void Bind(const ParameterStore& parameters);
  void PlaceTables(SharedTables& tables, TensorPlacer& placer);
  // Places the residual stream at the entrance of the layer.
  void PlaceEntrance(TensorPlacer& placer) { PlaceStream(branches_.front(), placer); }
  // Makes the residual streams at the entrances of the layer's blocks alternate between two tensors, if no backward
  // pass needs them. Returns the one that is free after the layer.
  int TakeAlternating(const Tensor (&streams)[2], int free);
  // Places what Forward keeps, but for the residual stream at the entrance.
  void PlaceSaved(TensorPlacer& placer);
  int64_t blocks() const { return static_cast<int64_t>(branches_.size()); }
  Block& block(int64_t index) const { return *branches_[static_cast<size_t>(index)].block; }

  const Tensor& entrance() const { return branches_.front().x; }
  // Runs the blocks. Returns the residual stream after them, whose addend lies in scratch.branch.
  absl::StatusOr<ResidualStream> Forward(const ResidualStream& in, const TensorRegion& region,
                                         const LayerScratch& scratch, Stream& stream) const;
  // grad_stream [local tokens, D] is the gradient of the residual stream after the layer on entry, before it on return.
  // Under recomputation the blocks run again first.
  absl::Status Backward(const Tensor& grad_stream, const TensorRegion& region, const LayerScratch& scratch,
                        Stream& stream) const;

  // Returns the tensors that the latest Forward kept, for messages.
  std::vector<NamedTensor> Saved() const;

 private:
  struct Branch {
    std::string name;
    std::unique_ptr<Block> block;
    std::unique_ptr<Norm> norm;
    Tensor x;  // kept: [local tokens, D] the residual stream at the block's entrance
  };
  void PlaceStream(Branch& branch, TensorPlacer& placer) const;
  // Computes scratch.normed, the whole norm of a branch's entrance, which is made from `in`.
  absl::Status Enter(const Branch& branch, const ResidualStream& in, const TensorRegion& region,
                     const LayerScratch& scratch, Stream& stream) const;
  // Computes the block's output, whose local part is in scratch.branch. It makes none if only what its backward pass
  // needs is wanted.
  absl::Status Run(const Branch& branch, const ResidualStream& in, bool output, const TensorRegion& region,
                   const LayerScratch& scratch, Stream& stream) const;
  absl::Status Recompute(const TensorRegion& region, const LayerScratch& scratch, Stream& stream) const;
  absl::Status BranchBackward(const Branch& branch, const Tensor& grad_stream, const TensorRegion& region,
                              const LayerScratch& scratch, Stream& stream) const;

  const PartSetting* setting_;
  std::string prefix_;
  std::vector<Branch> branches_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_LAYER_H_
