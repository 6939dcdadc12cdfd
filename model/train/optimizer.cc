#include "model/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "model/compute_type.h"
#include "ops/elementwise.h"
#include "parallel/gradient_reducer.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// The elements of each parameter that a data rank owns; an empty range where it owns none. A parameter lies in one
// bucket, so they are one range.
std::vector<Range> OwnedElementsOf(const ParameterTable& table, const proto::RunConfig& config, int data_rank) {
  const proto::MeshConfig& mesh = config.mesh();
  std::vector<Range> parts = {{0, table.size}};
  if (mesh.shard_optimizer() && mesh.data() > 1) {
    parts = PartsOfBuckets(table.segments, SizeOf(AccumulationType(ComputeType(config.precision()))), BucketBytes(mesh),
                           mesh.data(), data_rank);
  }
  std::vector<Range> owned;
  for (const ParameterSpec& spec : table.specs) {
    owned.push_back({spec.offset, spec.offset});
    for (const Range& part : parts) {
      const Range common = {std::max(part.begin, spec.offset), std::min(part.end, spec.offset + spec.local_size())};
      if (common.size() > 0) owned.back() = common;
    }
  }
  return owned;
}

// Hands out places for the tensors of pieces. Kernels are fastest if tensors are aligned as the weights are.
class StatePlaces {
 public:
  Range Take(const Range& elements) {
    constexpr int64_t kElementAlignment = 16;
    const int64_t begin =
        (used_ + kElementAlignment - 1) / kElementAlignment * kElementAlignment + elements.begin % kElementAlignment;
    used_ = begin + elements.size();
    return {begin, used_};
  }
  int64_t used() const { return used_; }

 private:
  int64_t used_ = 0;
};

// Elements of all tensors that a data rank keeps.
int64_t KeptElements(const ParameterTable& table, const std::vector<ParameterSettings>& settings,
                     const proto::RunConfig& config, int data_rank) {
  const std::vector<Range> owned = OwnedElementsOf(table, config, data_rank);
  StatePlaces places;
  for (size_t i = 0; i < owned.size(); ++i) {
    for (size_t n = settings[i].Kept(ComputeType(config.precision())).size(); n > 0; --n) places.Take(owned[i]);
  }
  return places.used();
}

struct OptimizerMemory {
  Tensor state, scratch, squares, products;
};

OptimizerMemory PlaceMemory(const ParameterTable& table, const proto::RunConfig& config, TensorPlacer& placer) {
  const std::vector<ParameterSettings> settings = SettingsOf(config.optimizer(), table);
  const int ranks = config.mesh().shard_optimizer() ? config.mesh().data() : 1;
  int64_t state = 0, scratch = 0;
  for (int rank = 0; rank < ranks; ++rank) state = std::max(state, KeptElements(table, settings, config, rank));
  for (size_t i = 0; i < settings.size(); ++i) {
    if (settings[i].rule->scratch) scratch = std::max(scratch, settings[i].rule->scratch(table.specs[i]));
  }
  const DType type = AccumulationType(ComputeType(config.precision()));
  OptimizerMemory memory;
  memory.state = placer.Place("moments and master weights", type, 1, state);
  if (scratch > 0) memory.scratch = placer.Place("scratch of the optimizer", type, 1, scratch);
  memory.squares = placer.Place("gradient_squares", DType::kFloat64, 1, 2);
  memory.products = placer.Place("products of gradients and weights", DType::kFloat64, 1, std::ssize(table.specs));
  return memory;
}

}  // namespace

int64_t BucketBytes(const proto::MeshConfig& mesh) {
  return static_cast<int64_t>(mesh.bucket_mebibytes() * 1024 * 1024);
}

ArenaLayout Optimizer::StateLayout(const ParameterTable& table, const proto::RunConfig& config) {
  TensorPlacer placer;
  PlaceMemory(table, config, placer);
  return placer.layout();
}

absl::StatusOr<Optimizer> Optimizer::Create(const ParameterStore& parameters, const Mesh& mesh,
                                            const proto::RunConfig& config, Stream& stream) {
  const ParameterTable& table = parameters.table();
  Optimizer optimizer;
  optimizer.parameters_ = &parameters;
  optimizer.mesh_ = &mesh;
  optimizer.stream_ = &stream;
  optimizer.settings_ = SettingsOf(config.optimizer(), table);
  optimizer.groups_ = GroupFiguresOf(config.optimizer(), table);
  optimizer.sharded_ = config.mesh().shard_optimizer() && mesh.data_ranks() > 1;
  ISTHMUS_ASSIGN_OR_RETURN(optimizer.memory_,
                           Arena::Allocate("optimizer state", StateLayout(table, config).bytes(), stream));
  TensorPlacer placer(&optimizer.memory_);
  const OptimizerMemory memory = PlaceMemory(table, config, placer);
  optimizer.state_ = memory.state;
  optimizer.scratch_ = memory.scratch;
  optimizer.squares_ = memory.squares;
  optimizer.products_ = memory.products;
  const std::vector<Range> owned = OwnedElementsOf(table, config, mesh.data_rank());
  StatePlaces places;
  for (size_t i = 0; i < owned.size(); ++i) {
    Piece piece = {static_cast<int>(i), owned[i], {}};
    for (size_t n = optimizer.settings_[i].Kept(parameters.compute_type()).size(); n > 0; --n) {
      const Range place = places.Take(owned[i]);
      piece.state.push_back(optimizer.state_.ColumnSlice(place.begin, place.size()));
    }
    optimizer.pieces_.push_back(std::move(piece));
  }
  return optimizer;
}

bool Optimizer::has_masters() const {
  return parameters_->compute_type() != AccumulationType(parameters_->compute_type());
}

Tensor Optimizer::WeightsOf(const Piece& piece) const {
  return has_masters() ? piece.state.front()
                       : parameters_->weights().ColumnSlice(piece.elements.begin, piece.elements.size());
}

absl::Status Optimizer::Initialize(uint64_t seed) {
  if (state_.size() > 0) ISTHMUS_RETURN_IF_ERROR(SetZero({.x = state_}, *stream_));
  if (!has_masters()) return absl::OkStatus();
  for (const Piece& piece : pieces_) {
    if (piece.elements.size() == 0) continue;
    ISTHMUS_RETURN_IF_ERROR(InitialValues(parameters_->table(), seed, piece.elements, piece.state.front(), *stream_));
  }
  return absl::OkStatus();
}

absl::StatusOr<Optimizer::GradientSquares> Optimizer::SquaresOfGradients() {
  const Tensor gradients = parameters_->gradients();
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = squares_}, *stream_));
  for (const Piece& piece : pieces_) {
    if (piece.elements.size() == 0) continue;
    const bool replicated = parameters_->specs()[static_cast<size_t>(piece.spec)].sharding == Sharding::kReplicated;
    ISTHMUS_RETURN_IF_ERROR(AddSumOfSquares({.x = gradients.ColumnSlice(piece.elements.begin, piece.elements.size()),
                                             .total = squares_.ColumnSlice(replicated ? 1 : 0, 1)},
                                            *stream_));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor host, host_squares_.Room(DType::kFloat64, 1, 2, *stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(squares_, host, *stream_));
  return GradientSquares{host.As<double>()[0], host.As<double>()[1]};
}

absl::StatusOr<std::vector<double>> Optimizer::WeightProducts() {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = products_}, *stream_));
  for (const Piece& piece : pieces_) {
    if (piece.elements.size() == 0) continue;
    ISTHMUS_RETURN_IF_ERROR(
        AddDot({.x = parameters_->gradients().ColumnSlice(piece.elements.begin, piece.elements.size()),
                .y = WeightsOf(piece),
                .total = products_.ColumnSlice(piece.spec, 1)},
               *stream_));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor host, host_products_.Room(DType::kFloat64, 1, products_.columns, *stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(products_, host, *stream_));
  return std::vector<double>(host.As<double>(), host.As<double>() + host.columns);
}

std::vector<Optimizer::StatePart> Optimizer::State() const {
  std::vector<StatePart> parts;
  for (const Piece& piece : pieces_) {
    if (piece.elements.size() == 0) continue;
    StatePart part = {piece.spec, piece.elements, {}};
    const std::vector<proto::TensorRole> kept = Kept(piece.spec);
    for (size_t i = 0; i < kept.size(); ++i) part.tensors.emplace_back(kept[i], piece.state[i]);
    parts.push_back(std::move(part));
  }
  return parts;
}

std::vector<proto::TensorRole> Optimizer::Kept(int spec) const {
  return settings_[static_cast<size_t>(spec)].Kept(parameters_->compute_type());
}

std::optional<double> Optimizer::Beta2Of(size_t spec) const {
  const ParameterSettings& settings = settings_[spec];
  const auto& kept = settings.rule->state;
  if (std::find(kept.begin(), kept.end(), proto::SECOND_MOMENT) == kept.end()) return std::nullopt;
  return settings.beta2;
}

int64_t Optimizer::most_tensors() const {
  size_t most = 0;
  for (const Piece& piece : pieces_) most = std::max(most, piece.state.size());
  return static_cast<int64_t>(most);
}

bool Optimizer::CanTake(double gradient_norm, double grad_scale) const {
  using Float = std::numeric_limits<float>;
  if (AccumulationType(parameters_->compute_type()) == DType::kFloat64) return true;
  return grad_scale >= Float::min() && gradient_norm * grad_scale <= std::sqrt(double{Float::max()});
}

absl::Status Optimizer::Update(int64_t step, double learning_rate, double grad_scale) {
  for (const Piece& piece : pieces_) {
    const ParameterSettings& settings = settings_[static_cast<size_t>(piece.spec)];
    const int64_t begin = piece.elements.begin, count = piece.elements.size();
    // Rules with scratch memory work on whole matrices: the ranks that own nothing take part.
    if (count == 0 && !settings.rule->scratch) continue;
    OwnedElements owned = {.spec = &parameters_->specs()[static_cast<size_t>(piece.spec)],
                           .elements = piece.elements,
                           .gradient = parameters_->gradients().ColumnSlice(begin, count),
                           .weight = WeightsOf(piece),
                           .state = piece.state};
    if (has_masters()) {
      owned.compute_weight = parameters_->weights().ColumnSlice(begin, count);
      owned.state.erase(owned.state.begin());
    }
    ISTHMUS_RETURN_IF_ERROR(settings.rule->update(owned,
                                                  {.step = step,
                                                   .learning_rate = learning_rate * settings.learning_rate_factor,
                                                   .beta1 = settings.beta1,
                                                   .beta2 = settings.beta2,
                                                   .epsilon = settings.epsilon,
                                                   .weight_decay = settings.weight_decay,
                                                   .grad_scale = grad_scale},
                                                  {*mesh_, sharded_, scratch_, *stream_}));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
