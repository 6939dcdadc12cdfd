// The optimizer updates the elements of the flat parameter arena that this data rank owns, each parameter by its rule
// (update_rule.h). A rank owns all elements, or with a sharded optimizer (ZeRO stage 1, arXiv:1910.02054) its part of
// every bucket. With bf16 weights the fp32 master weights live here.
#ifndef ISTHMUS_MODEL_TRAIN_OPTIMIZER_H_
#define ISTHMUS_MODEL_TRAIN_OPTIMIZER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "model/parameters.h"
#include "model/train/parameter_groups.h"
#include "parallel/mesh.h"
#include "parallel/shard.h"
#include "proto/checkpoint.pb.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"

namespace isthmus {

// The least size of the buckets in which gradients are reduced.
int64_t BucketBytes(const proto::MeshConfig& mesh);

class Optimizer {
 public:
  // `config` must be resolved, and its groups must have passed CheckParameterGroups. `parameters`, `mesh` and `stream`
  // must outlive the optimizer.
  static absl::StatusOr<Optimizer> Create(const ParameterStore& parameters, const Mesh& mesh,
                                          const proto::RunConfig& config, Stream& stream);

  // Describes the memory of moments and master weights, as Create allocates it. All data ranks take as much as the one
  // that needs most.
  static ArenaLayout StateLayout(const ParameterTable& table, const proto::RunConfig& config);
  int64_t bytes() const { return memory_.bytes(); }

  // Sets the state before the first step: moments are zero, and with bf16 weights the master weights are the initial
  // values before their rounding.
  absl::Status Initialize(uint64_t seed);

  // These are sums of squares of the gradients of the owned elements. They are NaN or infinite if an element is. Waits
  // for the stream.
  struct GradientSquares {
    double cut = 0;         // of parameters that are cut over the tensor ranks
    double replicated = 0;  // of those that all tensor ranks have
  };
  absl::StatusOr<GradientSquares> SquaresOfGradients();

  // Returns ⟨gradient, weight⟩ over the owned elements of each parameter, in fp64; with master weights those are meant.
  // Waits for the stream.
  absl::StatusOr<std::vector<double>> WeightProducts();

  // Returns fp64 [1, 1] on the stream's device, for sums between steps.
  Tensor sum_scratch() const { return squares_.ColumnSlice(0, 1); }

  // A part is a run of elements of one parameter with what the optimizer knows of them: views [1, elements.size()].
  struct StatePart {
    int spec = 0;                                               // of the parameters
    Range elements;                                             // in the arena
    std::vector<std::pair<proto::TensorRole, Tensor>> tensors;  // master weight (only of bf16) and moments
  };
  // Returns all owned elements, ascending.
  std::vector<StatePart> State() const;
  absl::Span<const ParameterSpec> specs() const { return parameters_->specs(); }
  // Returns the groups of the configuration.
  const std::vector<ParameterGroupFigures>& groups() const { return groups_; }
  // Returns the index of a parameter's group; -1: none.
  int GroupOf(size_t spec) const { return settings_[spec].group; }
  // Returns what those tensors of one parameter are.
  std::vector<proto::TensorRole> Kept(int spec) const;
  // Returns how many of those tensors the parameter has that has most.
  int64_t most_tensors() const;
  // Returns β₂ of a parameter; none if its rule has no second moment.
  std::optional<double> Beta2Of(size_t spec) const;
  // Returns true if other data ranks own other elements.
  bool sharded() const { return sharded_; }

  // Returns true if gradients of this norm, times grad_scale, keep their meaning in fp32. An infinite square would stop
  // its weight for good, and a factor below fp32's normal numbers loses digits, or all. In fp64 every finite norm is
  // fit. All ranks get the same answer.
  bool CanTake(double gradient_norm, double grad_scale) const;

  // Updates the owned elements once with gradients times grad_scale; `step` counts from 1. The learning rate is
  // multiplied by the factor of a parameter's group.
  absl::Status Update(int64_t step, double learning_rate, double grad_scale);

 private:
  // A piece is what this rank owns of a parameter: a run of elements, which may be empty.
  struct Piece {
    int spec = 0;
    Range elements;             // in the arena
    std::vector<Tensor> state;  // of the roles that ParameterSettings::Kept lists
  };
  bool has_masters() const;
  // Returns the weights of a piece as they are updated: the master weights where there are some.
  Tensor WeightsOf(const Piece& piece) const;

  const ParameterStore* parameters_ = nullptr;
  const Mesh* mesh_ = nullptr;
  Stream* stream_ = nullptr;
  std::vector<ParameterSettings> settings_;  // by parameter
  std::vector<ParameterGroupFigures> groups_;
  std::vector<Piece> pieces_;  // by parameter
  bool sharded_ = false;
  Arena memory_;
  Tensor state_;     // [1, n]: all that is kept from step to step
  Tensor scratch_;   // [1, n]: of the rule that needs most
  Tensor squares_;   // fp64 [1, 2]: of parameters cut over the tensor ranks, of replicated ones
  Tensor products_;  // fp64 [1, parameters]
  HostBuffer host_squares_, host_products_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_OPTIMIZER_H_
