#include "model/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/adamw.h"
#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

struct OptimizerState {
  Tensor first_moment, second_moment, masters, squares;
};

OptimizerState PlaceState(int64_t owned, DType compute_type, TensorPlacer& placer) {
  const DType sum_type = AccumulationType(compute_type);
  OptimizerState state;
  state.first_moment = placer.Place("first_moment", sum_type, 1, owned);
  state.second_moment = placer.Place("second_moment", sum_type, 1, owned);
  if (compute_type != sum_type) state.masters = placer.Place("master_weights", sum_type, 1, owned);
  state.squares = placer.Place("gradient_squares", DType::kFloat64, 1, 2);
  return state;
}

}  // namespace

ArenaLayout Optimizer::StateLayout(int64_t owned, DType compute_type) {
  TensorPlacer placer;
  PlaceState(owned, compute_type, placer);
  return placer.layout();
}

absl::StatusOr<Optimizer> Optimizer::Create(const ParameterStore& parameters, absl::Span<const Range> owned,
                                            const proto::OptimizerConfig& config, Stream& stream) {
  Optimizer optimizer;
  optimizer.parameters_ = &parameters;
  optimizer.stream_ = &stream;
  optimizer.settings_ = SettingsOf(config, parameters.table());
  optimizer.groups_ = GroupFiguresOf(config, parameters.table());
  for (const Range& range : owned) {
    for (size_t index = 0; index < parameters.specs().size(); ++index) {
      const ParameterSpec& spec = parameters.specs()[index];
      const int64_t begin = std::max(range.begin, spec.offset);
      const int64_t end = std::min(range.end, spec.offset + spec.local_size());
      if (begin >= end) continue;
      optimizer.pieces_.push_back({static_cast<int>(index),
                                   {begin, end},
                                   optimizer.owned_ + begin - range.begin,
                                   spec.sharding == Sharding::kReplicated});
    }
    optimizer.owned_ += range.size();
  }
  optimizer.sharded_ = optimizer.owned_ < parameters.table().size;
  const DType type = parameters.compute_type();
  const int64_t bytes = StateLayout(optimizer.owned_, type).bytes();
  ISTHMUS_ASSIGN_OR_RETURN(optimizer.state_, Arena::Allocate("optimizer state", bytes, stream));
  TensorPlacer placer(&optimizer.state_);
  const OptimizerState state = PlaceState(optimizer.owned_, type, placer);
  optimizer.first_moment_ = state.first_moment;
  optimizer.second_moment_ = state.second_moment;
  optimizer.masters_ = state.masters;
  optimizer.squares_ = state.squares;
  return optimizer;
}

absl::Status Optimizer::Initialize(uint64_t seed) {
  if (owned_ > 0) {
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = first_moment_}, *stream_));
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = second_moment_}, *stream_));
  }
  if (!masters_.defined()) return absl::OkStatus();
  for (const Piece& piece : pieces_) {
    ISTHMUS_RETURN_IF_ERROR(InitialValues(parameters_->table(), seed, piece.elements,
                                          masters_.ColumnSlice(piece.state, piece.elements.size()), *stream_));
  }
  return absl::OkStatus();
}

absl::StatusOr<Optimizer::GradientSquares> Optimizer::SquaresOfGradients() {
  const Tensor gradients = parameters_->gradients();
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = squares_}, *stream_));
  for (const Piece& piece : pieces_) {
    ISTHMUS_RETURN_IF_ERROR(AddSumOfSquares({.x = gradients.ColumnSlice(piece.elements.begin, piece.elements.size()),
                                             .total = squares_.ColumnSlice(piece.replicated ? 1 : 0, 1)},
                                            *stream_));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor host, host_squares_.Room(DType::kFloat64, 1, 2, *stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(squares_, host, *stream_));
  return GradientSquares{host.As<double>()[0], host.As<double>()[1]};
}

std::vector<Optimizer::StatePart> Optimizer::State() const {
  std::vector<StatePart> parts;
  for (const Piece& piece : pieces_) {
    const int64_t count = piece.elements.size();
    parts.push_back({piece.spec, piece.elements, first_moment_.ColumnSlice(piece.state, count),
                     second_moment_.ColumnSlice(piece.state, count),
                     masters_.defined() ? masters_.ColumnSlice(piece.state, count) : Tensor()});
  }
  return parts;
}

bool Optimizer::CanTake(double gradient_norm, double grad_scale) const {
  using Float = std::numeric_limits<float>;
  if (AccumulationType(parameters_->compute_type()) == DType::kFloat64) return true;
  return grad_scale >= Float::min() && gradient_norm * grad_scale <= std::sqrt(double{Float::max()});
}

absl::Status Optimizer::Update(int64_t step, double learning_rate, double grad_scale) {
  const Tensor gradients = parameters_->gradients(), weights = parameters_->weights();
  for (const Piece& piece : pieces_) {
    const int64_t begin = piece.elements.begin, count = piece.elements.size();
    const Tensor compute = weights.ColumnSlice(begin, count);
    const bool masters = masters_.defined();
    const ParameterSettings& settings = settings_[static_cast<size_t>(piece.spec)];
    ISTHMUS_RETURN_IF_ERROR(AdamW({.weight = masters ? masters_.ColumnSlice(piece.state, count) : compute,
                                   .grad = gradients.ColumnSlice(begin, count),
                                   .first_moment = first_moment_.ColumnSlice(piece.state, count),
                                   .second_moment = second_moment_.ColumnSlice(piece.state, count),
                                   .compute_weight = masters ? compute : Tensor(),
                                   .learning_rate = learning_rate * settings.learning_rate_factor,
                                   .beta1 = settings.beta1,
                                   .beta2 = settings.beta2,
                                   .epsilon = settings.epsilon,
                                   .weight_decay = settings.weight_decay,
                                   .grad_scale = grad_scale,
                                   .step = step},
                                  *stream_));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
