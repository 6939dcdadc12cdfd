// AdamW updates the elements of the flat parameter arena that this data rank owns. It owns all of them, or with a
// sharded optimizer (ZeRO stage 1, arXiv:1910.02054) its part of every bucket. With bf16 weights the fp32 master
// weights live here.
#ifndef ISTHMUS_MODEL_TRAIN_OPTIMIZER_H_
#define ISTHMUS_MODEL_TRAIN_OPTIMIZER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "model/parameters.h"
#include "model/train/parameter_groups.h"
#include "parallel/shard.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/host_buffer.h"
#include "runtime/stream.h"

namespace isthmus {

class Optimizer {
 public:
  // `owned` lists element ranges of the arena, ascending. Over the data ranks they are all of it (or all of it on
  // each). `config` must have passed CheckParameterGroups. `parameters` and `stream` must outlive the optimizer.
  static absl::StatusOr<Optimizer> Create(const ParameterStore& parameters, absl::Span<const Range> owned,
                                          const proto::OptimizerConfig& config, Stream& stream);

  // Describes the memory of moments and master weights for `owned` elements, as Create allocates it.
  static ArenaLayout StateLayout(int64_t owned, DType compute_type);
  int64_t bytes() const { return state_.bytes(); }

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

  // Returns fp64 [1, 1] on the stream's device, for sums between steps.
  Tensor sum_scratch() const { return squares_.ColumnSlice(0, 1); }

  // A part is a run of elements of one parameter with what the optimizer knows of them: views [1, elements.size()].
  struct StatePart {
    int spec = 0;    // of the parameters
    Range elements;  // in the arena
    Tensor first_moment, second_moment;
    Tensor master;  // only with bf16 weights
  };
  // Returns all owned elements, ascending.
  std::vector<StatePart> State() const;
  // Returns the groups of the configuration.
  const std::vector<ParameterGroupFigures>& groups() const { return groups_; }
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
  // A piece is a run of owned elements of one parameter.
  struct Piece {
    int spec = 0;
    Range elements;           // in the arena
    int64_t state = 0;        // first element in the arenas of the state
    bool replicated = false;  // over tensor ranks
  };

  const ParameterStore* parameters_ = nullptr;
  Stream* stream_ = nullptr;
  std::vector<ParameterSettings> settings_;  // by parameter
  std::vector<ParameterGroupFigures> groups_;
  std::vector<Piece> pieces_;
  bool sharded_ = false;
  int64_t owned_ = 0;
  Arena state_;
  Tensor first_moment_, second_moment_;  // [1, owned]
  Tensor masters_;                       // [1, owned] fp32, only with bf16 weights
  Tensor squares_;                       // fp64 [1, 2]: of parameters cut over the tensor ranks, of replicated ones
  HostBuffer host_squares_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_OPTIMIZER_H_
