#include "model/measure/measurement_memory.h"

#include <algorithm>

#include "model/algebra/gram_factor.h"
#include "model/compute_type.h"
#include "model/future_schedule.h"
#include "model/heads/heads.h"
#include "model/parameters.h"
#include "ops/gram.h"

namespace isthmus {

namespace {

constexpr DType kSum = DType::kFloat64;

// Places sums over the tokens of a step, neighbours in one tensor.
void PlaceSums(const MeasurementShape& shape, TensorPlacer& placer, MeasurementMemory& m) {
  const int64_t width = shape.width, hidden = shape.hidden_width;
  m.sums.all = placer.Place("measurement.sums", kSum, 1, 2 * width * width + width * hidden + hidden * hidden + hidden);
  int64_t at = 0;
  const auto view = [&](int64_t view_rows, int64_t columns) {
    const Tensor whole = m.sums.all.ColumnSlice(at, view_rows * columns);
    at += view_rows * columns;
    return Tensor(whole.data, kSum, view_rows, columns);
  };
  m.sums.signal_gram = view(width, width);
  m.sums.signal_hidden = view(width, hidden);
  m.sums.hidden_gram = view(hidden, hidden);
  m.sums.projected_gram = view(width, width);
  m.sums.hidden_unit_sum = view(1, hidden);
}

// Places the head's Gram matrix and projector, and the memory to find them.
void PlaceFactors(const MeasurementShape& shape, TensorPlacer& placer, MeasurementMemory& m) {
  const int64_t width = shape.width, hidden = shape.hidden_width;
  const int64_t chunk = shape.token_chunk();
  const DType type = shape.type, wide = shape.sum_type();
  m.head.part_gram = placer.Place("measurement.part_gram", kSum, width, width);
  if (wide != kSum) m.gram_workspace = placer.Place("measurement.gram_workspace", wide, 1, hidden * hidden);
  m.head.gram = placer.Place("measurement.head_gram", kSum, width, width);
  if (shape.tensor_ranks > 1) m.head.shard_gram = placer.Place("measurement.shard_gram", kSum, width, width);
  m.head.factor = placer.Place("measurement.factor", kSum, kGramFactorRows, width);
  m.update = HeadUpdateMemory::Place(width, hidden, shape.has_down, placer);
  if (shape.has_down) {
    m.head.down = placer.Place("measurement.down", kSum, width, hidden);
    m.head.first_square = m.update.first_square;
    m.head.second_square = m.update.second_square;
  } else if (shape.tensor_ranks > 1) {
    m.head.first_square = placer.Place("measurement.first_square", kSum, width, width);
    m.head.second_square = placer.Place("measurement.second_square", kSum, width, width);
  }
  if (wide != kSum) m.head.wide_rows = placer.Place("measurement.wide_rows", kSum, shape.wide_rows(), width);
  m.head.wide_projector = placer.Place("measurement.wide_projector", kSum, width, width);
  m.head.projector = wide != kSum ? placer.Place("measurement.projector", wide, width, width) : m.head.wide_projector;
  if (shape.split) {
    m.head.signal_parts = placer.Place("measurement.signal_parts", type, chunk, 3 * width);
    m.head.projector_parts = placer.Place("measurement.projector_parts", type, 6 * width, width);
  }
  m.head.unit_sum = placer.Place("measurement.head_unit_sum", kSum, 1, width);
  // A data rank has at most as many tokens of the sample as its share, rounded up.
  m.layers = LayerMemory::Place({.layers = shape.layers,
                                 .width = hidden,
                                 .tokens = shape.stream_tokens(),
                                 .sampled = (shape.stream_sampled() + shape.data_ranks - 1) / shape.data_ranks,
                                 .type = type},
                                placer);
}

// Places figures of a micro-batch's tokens.
void PlaceTokens(const MeasurementShape& shape, TensorPlacer& placer, MeasurementMemory& m) {
  const int64_t width = shape.width;
  const int64_t own = shape.own_tokens(), chunk = shape.token_chunk();
  const DType type = shape.type, wide = shape.sum_type();
  m.tokens.loss = placer.Place("measurement.loss", wide, 1, shape.tokens);
  m.tokens.log_sum_exp = placer.Place("measurement.log_sum_exp", wide, 1, shape.tokens);
  m.tokens.energy = placer.Place("measurement.energy", kSum, shape.tensor_ranks, shape.tokens);
  m.tokens.retained = placer.Place("measurement.retained", kSum, 1, own);
  m.tokens.target_dots = placer.Place("measurement.target_dots", kSum, 1, own);
  m.squares = placer.Place("measurement.squares", kSum, 1, std::max(own, shape.row_block()));
  if (wide != type) {
    m.tokens.shard_signal = placer.Place("measurement.shard_signal", wide, shape.tensor_ranks * own, width);
    m.tokens.signal =
        shape.tensor_ranks > 1 ? placer.Place("measurement.signal", wide, own, width) : m.tokens.shard_signal;
  }
  m.tokens.projected = placer.Place("measurement.projected", wide, chunk, width);
  m.tokens.target_basis = placer.Place("measurement.target_basis", wide, chunk, width);
  m.tokens.target_rows = placer.Place("measurement.target_rows", type, chunk, width);
  if (shape.tensor_ranks > 1) {
    m.tokens.all_target_rows = placer.Place("measurement.all_target_rows", type, shape.tensor_ranks * chunk, width);
  }
  if (wide != type && !shape.split) {
    m.tokens.wide_target_rows = placer.Place("measurement.wide_target_rows", wide, chunk, width);
  }
}

// Places blocks of vocabulary rows.
void PlaceRows(const MeasurementShape& shape, TensorPlacer& placer, MeasurementMemory& m) {
  const int64_t width = shape.width, hidden = shape.hidden_width;
  const int64_t rows = shape.row_block();
  const DType type = shape.type, wide = shape.sum_type();
  m.parts.row_energy = placer.Place("measurement.row_energy", kSum, 1, shape.shard.size());
  if (shape.in_embedding) {
    m.embedding_gradient = placer.Place("measurement.embedding_gradient", wide, shape.shard.size(), hidden);
  }
  const int64_t most_own_rows = shape.OwnRows(0).size();
  m.parts.frequent_rows =
      placer.Place("measurement.frequent_rows", DType::kInt32, 1, std::min(shape.frequent_rows(), most_own_rows));
  m.parts.row_block = placer.Place("measurement.row_block", type, rows, width);
  if (!shape.split) {
    m.parts.wide_row_block =
        wide != type ? placer.Place("measurement.wide_row_block", wide, rows, width) : m.parts.row_block;
  }
  m.parts.row_block_basis = placer.Place("measurement.row_block_basis", wide, rows, width);
}

// Places the memory of the sampled tokens.
void PlaceSample(const MeasurementShape& shape, TensorPlacer& placer, MeasurementMemory& m) {
  const int64_t width = shape.width, hidden = shape.hidden_width;
  const int64_t sampled = shape.sampled;
  const DType type = shape.type, wide = shape.sum_type();
  m.tokens.positions = placer.Place("measurement.positions", DType::kInt32, 1, sampled);
  m.sample.targets = placer.Place("measurement.sampled_targets", DType::kInt32, 1 + shape.offsets, sampled);
  if (shape.offsets > 0) {
    m.sample.future_weights = placer.Place("measurement.future_weights", kSum, 1, shape.offsets);
    m.sample.target_weight = placer.Place("measurement.sampled_target_weight", wide, 1, sampled);
    m.sample.excess_weight = placer.Place("measurement.sampled_excess_weight", wide, 1, sampled);
    m.sample.target_logits = placer.Place("measurement.sampled_target_logits", wide, sampled, shape.offsets);
  }
  m.tokens.found_hidden = placer.Place("measurement.found_hidden", type, sampled, hidden);
  m.sample.hidden = placer.Place("measurement.sampled_hidden", type, sampled, hidden);
  if (shape.has_down) m.sample.input = placer.Place("measurement.sampled_input", type, sampled, width);
  m.sample.loss = placer.Place("measurement.sampled_loss", wide, 1, sampled);
  m.sample.log_sum_exp = placer.Place("measurement.sampled_log_sum_exp", wide, 1, sampled);
  m.sample.logits = placer.Place("measurement.sampled_logits", wide, sampled, shape.row_block());
  m.sample.gram = placer.Place("measurement.sample_gram", wide, sampled, sampled);
  const int64_t tested = shape.most_tested();
  if (wide != kSum)
    m.sample.tested_gradient = placer.Place("measurement.tested_gradient", kSum, tested, shape.wide_rows());
  m.sample.tested_signal = placer.Place("measurement.tested_signal", kSum, tested, width);
  m.sample.tested_projected = placer.Place("measurement.tested_projected", kSum, tested, width);
  if (shape.has_down) m.sample.tested_passed_on = placer.Place("measurement.tested_passed_on", kSum, tested, hidden);
}

}  // namespace

bool MeasuresHead(const proto::RunConfig& config) {
  return config.telemetry().interval() > 0 || config.telemetry().dump_step() > 0;
}

MeasurementShape MeasurementShape::Of(const proto::RunConfig& config, int tensor_rank, Device device) {
  const proto::ModelConfig& model = config.model();
  MeasurementShape shape;
  shape.vocabulary = model.vocabulary();
  const HeadShape head = HeadShapeOf(model);
  shape.width = head.width;
  shape.hidden_width = model.width();
  shape.layers = model.layers();
  shape.has_down = head.has_down;
  shape.in_embedding = head.in_embedding;
  shape.tensor_ranks = config.mesh().tensor();
  shape.data_ranks = config.mesh().data();
  shape.sequence_parallel = config.mesh().sequence_parallel() && shape.tensor_ranks > 1;
  shape.shard = ShardOf(shape.vocabulary, shape.tensor_ranks, tensor_rank);
  shape.tokens = config.batch().micro_batch() * config.data().sequence_length();
  shape.step_tokens = config.batch().sequences() * config.data().sequence_length();
  shape.sampled = std::min<int64_t>(config.telemetry().sample_tokens(), shape.step_tokens);
  shape.type = ComputeType(config.precision());
  shape.form = LossFormOf(model);
  shape.offsets = FutureSchedule(model.head()).offsets();
  shape.split = device == Device::kCuda && shape.type == DType::kBFloat16;
  return shape;
}

Range MeasurementShape::OwnTokens(int tensor_rank) const {
  const int64_t begin = std::min(own_tokens() * tensor_rank, tokens);
  return {begin, std::min(begin + own_tokens(), tokens)};
}

int64_t MeasurementShape::token_chunk() const { return std::min<int64_t>(own_tokens(), 4096); }

int64_t MeasurementShape::row_block() const { return std::min<int64_t>(std::max<int64_t>(shard.size(), 1), 4096); }

bool MeasurementShape::HostFactorsWithinAStep() const {
  constexpr double kMostWork = 1LL << 33;
  const auto columns = static_cast<double>(width);
  // A head of fewer rows than columns needs no QR. Its SVD is as small as its rows are few.
  if (vocabulary < width)
    return 8.0 * static_cast<double>(vocabulary) * static_cast<double>(vocabulary) * columns <= kMostWork;
  const int64_t rows = vocabulary / tensor_ranks + 1;
  return (static_cast<double>(rows) + 8 * columns) * columns * columns <= kMostWork;
}

int64_t MeasurementShape::wide_rows() const { return std::min<int64_t>(row_block(), 1024); }

MeasurementMemory MeasurementMemory::Place(const MeasurementShape& shape, TensorPlacer& placer) {
  MeasurementMemory m;
  PlaceSums(shape, placer, m);
  PlaceFactors(shape, placer, m);
  PlaceTokens(shape, placer, m);
  PlaceRows(shape, placer, m);
  PlaceSample(shape, placer, m);
  return m;
}

absl::Status MeasurementMemory::AddGram(const Tensor& x, const Tensor& y, const Tensor& c, Stream& stream) const {
  if (x.rows == 0) return absl::OkStatus();
  const Tensor workspace(gram_workspace.data, gram_workspace.dtype, c.rows, c.columns);
  return Gram({.x = x, .y = y, .c = c, .workspace = workspace}, stream);
}

}  // namespace isthmus
