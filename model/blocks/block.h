// A block maps the normalised residual stream to what the layer adds to the residual stream. Attention is one, a
// feed-forward network another. Layers (model/layer.h) do the rest: norms, residual additions, and the borders of the
// tensor-parallel region.
//
// A block works within that region. Its input is whole on every tensor rank. Its first projection is cut by rows, its
// last one by columns (Megatron-LM, arXiv:1909.08053, figure 3). So the outputs of the ranks are partial sums.
//
// Calls come in this order: Declare; PlaceTables, PlaceSaved, PlaceScratch, which may come twice; Bind; then for each
// micro-batch Forward, Backward, BackwardWeights. Under recomputation Forward comes twice.
#ifndef ISTHMUS_MODEL_BLOCKS_BLOCK_H_
#define ISTHMUS_MODEL_BLOCKS_BLOCK_H_

#include <absl/status/status.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/parameter_builder.h"
#include "model/parameters.h"
#include "model/shared_tables.h"
#include "runtime/arena.h"
#include "runtime/named_tensor.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class Block {
 public:
  virtual ~Block() = default;

  // Declares the parameters in the order of the forward pass.
  virtual void Declare(ParameterBuilder& parameters) = 0;
  // Takes views of the parameters. `parameters` must outlive the block.
  virtual void Bind(const ParameterStore& parameters) = 0;

  // Places constants that all layers read.
  virtual void PlaceTables(SharedTables& /*tables*/, TensorPlacer& /*placer*/) {}
  // Places what Forward keeps for Backward. `prefix` begins the tensors' names: "layers.3.".
  virtual void PlaceSaved(const std::string& prefix, TensorPlacer& placer) = 0;
  // Places what holds nothing between micro-batches nor between a Forward and its Backward. All blocks share it.
  virtual void PlaceScratch(TensorPlacer& placer) = 0;

  // Computes y [N, D], this rank's part of the block's output for x [N, D]. An undefined y is not computed: then only
  // what Backward needs is made. x and y must not overlap.
  virtual absl::Status Forward(const Tensor& x, const Tensor& y, Stream& stream) = 0;
  // Computes grad_x [N, D], this rank's part of the gradient of x, from the gradient of the whole output, grad_y [N,
  // D]. Gradients of parameters are added, but those that are left to BackwardWeights. May overwrite what Forward kept.
  virtual absl::Status Backward(const Tensor& grad_y, const Tensor& x, const Tensor& grad_x, Stream& stream) = 0;
  // Adds the gradients of parameters for which nothing waits, while grad_x is summed over the tensor ranks. Follows
  // Backward of the same x, before another block's call.
  virtual absl::Status BackwardWeights(const Tensor& x, Stream& stream) = 0;

  // Returns the tensors that the latest Forward kept and Backward leaves alone, in order; for messages.
  virtual std::vector<NamedTensor> Saved() const = 0;

  // Returns the floating-point operations of the forward pass per token beside the products with parameters. With
  // `causal` it counts the pairs of tokens that are computed, else all pairs (DESIGN section 7). The figure is for the
  // whole model, not this rank's part.
  virtual double ForwardFlopsPerToken(bool /*causal*/) const { return 0; }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_BLOCKS_BLOCK_H_
