#include "model/measure/head_decomposition.h"

#include <absl/memory/memory.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <iterator>
#include <optional>
#include <utility>

#include "model/measure/frequency_buckets.h"
#include "model/measure/head_projection.h"
#include "model/measure/head_projector.h"
#include "model/measure/head_sums.h"
#include "model/measure/head_update.h"
#include "model/measure/host_copy.h"
#include "model/measure/inner_products.h"
#include "model/measure/packed_sum.h"
#include "model/measure/sampled_gradient.h"
#include "model/measure/spectrum_finder.h"
#include "model/measure/token_sample.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/matmul.h"
#include "ops/reductions.h"
#include "ops/split.h"
#include "runtime/device.h"
#include "runtime/host_buffer.h"
#include "runtime/staged_copy.h"
#include "runtime/status.h"
#include "runtime/trace_range.h"
#include "runtime/work_recorder.h"

namespace isthmus {
namespace {

// Seconds from one call to the next.
class Laps {
 public:
  double Next() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace

struct HeadDecomposition::Host {
  // The figures of a micro-batch's tokens on their way to the host.
  enum Staged { kTokenLoss, kTokenLogSumExp, kTokenEnergy, kTokenRetained, kTokenTargetDot };
  struct MicroBatchFigures {
    StagedCopy copies;
  };

  HeadSums sums;
  bool finite = true;
  int64_t step = 0;
  bool fresh = false;       // the singular values must be of this step
  double scale = 0;         // of the loss: 1/N
  int64_t first_token = 0;  // of this data rank in the step
  int64_t micro_batch = 0;  // index
  HostBuffer positions;     // of the sampled tokens, by micro-batch
  Tensor placed;            // what of it is filled: int32 [micro-batches, sampled]
  TokenSample sample;
  Matrix sampled;  // [n, SampledGradient::kFigures]; this rank's part of it
  // Of the last two micro-batches: the host looks at one while the device has the next.
  std::array<MicroBatchFigures, 2> figures;
  std::optional<int64_t> waiting;  // index of the micro-batch that it has not looked at yet
  Tensor targets;                  // of the step, in host memory
  std::string not_linear;          // HeadView::not_linear
  HeadDump* dump = nullptr;
  Matrix layer_squares;  // from EndStep on
};

ArenaLayout HeadDecomposition::Layout(const MeasurementShape& shape) {
  TensorPlacer placer;
  MeasurementMemory::Place(shape, placer);
  return placer.layout();
}

HeadDecomposition::HeadDecomposition(const MeasurementShape& shape, const Mesh& mesh, Stream& stream)
    : shape_(shape), mesh_(mesh), stream_(stream), host_(std::make_unique<Host>()) {}

HeadDecomposition::~HeadDecomposition() = default;

void HeadDecomposition::UseSampleFinder(std::unique_ptr<SpectrumFinder> finder) { sample_finder_ = std::move(finder); }

bool HeadDecomposition::finding() const { return projector_->finding() || sample_finder_->busy(); }

absl::StatusOr<std::unique_ptr<HeadDecomposition>> HeadDecomposition::Create(const proto::RunConfig& config,
                                                                             const Mesh& mesh, Stream& stream,
                                                                             absl::Span<const uint64_t> token_counts) {
  if (!MeasuresHead(config)) return nullptr;
  const MeasurementShape shape = MeasurementShape::Of(config, mesh.tensor_rank(), stream.device());
  auto made = absl::WrapUnique(new HeadDecomposition(shape, mesh, stream));
  ISTHMUS_ASSIGN_OR_RETURN(made->arena_, Arena::Allocate("head decomposition", Layout(shape).bytes(), stream));
  TensorPlacer placer(&made->arena_);
  made->memory_ = MeasurementMemory::Place(shape, placer);
  made->projector_ = std::make_unique<HeadProjector>(made->shape_, made->memory_, mesh, stream);
  made->sample_finder_ = std::make_unique<SpectrumFinder>(shape.sampled, [](const Tensor& gram) {
    const Eigen::VectorXd values = Eigenvalues(gram);
    return std::vector<double>(values.begin(), values.end());
  });
  const MeasurementMemory& memory = made->memory_;
  made->head_observation_ = {memory.loss, memory.log_sum_exp, memory.energy, memory.row_energy, memory.shard_signal};
  ISTHMUS_RETURN_IF_ERROR(made->PlaceFrequentRows(token_counts));
  return made;
}

absl::Status HeadDecomposition::PlaceFrequentRows(absl::Span<const uint64_t> token_counts) {
  std::vector<uint64_t> counts(token_counts.begin(), token_counts.end());
  counts.resize(static_cast<size_t>(shape_.vocabulary), 0);
  const std::vector<uint8_t> buckets = FrequencyBuckets(counts);
  bucket_sizes_.resize(kFrequencyBuckets);
  for (const uint8_t bucket : buckets) ++bucket_sizes_[bucket];
  bucket_of_row_.assign(buckets.begin() + shape_.shard.begin, buckets.begin() + shape_.shard.end);
  // This rank's rows of every bucket but the last, one bucket after the other.
  std::vector<int32_t> rows;
  for (int bucket = 0; bucket + 1 < kFrequencyBuckets; ++bucket) {
    const auto begin = static_cast<int64_t>(rows.size());
    for (int64_t row = own_rows().begin; row < own_rows().end; ++row) {
      if (bucket_of_row_[static_cast<size_t>(row)] == bucket) rows.push_back(static_cast<int32_t>(row));
    }
    bucket_rows_.push_back({begin, static_cast<int64_t>(rows.size())});
  }
  const auto count = static_cast<int64_t>(rows.size());
  return CopyFromHost(Tensor(rows.data(), DType::kInt32, 1, count), memory_.frequent_rows.ColumnSlice(0, count),
                      stream_);
}

void HeadDecomposition::Dump(HeadDump* dump) { host_->dump = dump; }

StepObserver::Observed HeadDecomposition::observed() const {
  const bool linear = host_->not_linear.empty();
  return {linear ? &head_observation_ : nullptr, {memory_.layer_squares, memory_.embedding_gradient}};
}

bool HeadDecomposition::capturable() const { return host_->dump == nullptr; }

absl::Status HeadDecomposition::SumOverMesh(const Tensor& tensor) {
  const Tensor whole = tensor.Reshape(1, tensor.size());
  if (mesh_.tensor_ranks() > 1) ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().AllReduce(whole));
  return mesh_.data().AllReduce(whole);
}

absl::Status HeadDecomposition::BeginStep(const HeadView& head, const Beginning& begun) {
  const TraceRange range(stream_, "projector");
  const int64_t step = begun.step, local_tokens = begun.local_tokens, tokens = local_tokens * mesh_.data_ranks();
  host_->not_linear = head.not_linear;
  if (!head.not_linear.empty()) return SetZero({.x = memory_.layer_squares}, stream_);
  const bool fresh = begun.last || host_->dump != nullptr;
  if (host_->dump != nullptr) {
    ISTHMUS_RETURN_IF_ERROR(host_->dump->Begin(head, begun.targets, shape_.hidden_width, stream_));
  }
  Laps laps;
  seconds_ = {};
  Host& host = *host_;
  host.sums = HeadSums();
  host.sums.tokens = tokens;
  host.sums.vocabulary = shape_.vocabulary;
  host.sums.width = shape_.width;
  host.sums.arithmetic = shape_.sum_type();
  host.step = step;
  host.fresh = fresh;
  host.targets = begun.targets;
  host.scale = 1.0 / static_cast<double>(tokens);
  host.first_token = local_tokens * mesh_.data_rank();
  host.sample = TokenSample::Of(tokens, shape_.sampled);
  host.sampled = Matrix::Zero(host.sample.count, SampledGradient::kFigures);
  host.waiting.reset();
  ISTHMUS_RETURN_IF_ERROR(PlaceSample(local_tokens / shape_.tokens));
  for (const Tensor& sum : {memory_.sums, memory_.head_unit_sum, memory_.layer_squares, memory_.row_energy,
                            memory_.sampled_hidden, memory_.embedding_gradient}) {
    if (sum.defined()) ISTHMUS_RETURN_IF_ERROR(SetZero({.x = sum}, stream_));
  }
  const Tensor weight = head.weight.RowSlice(own_rows().begin, own_rows().size());
  ISTHMUS_RETURN_IF_ERROR(AddHeadDirections(weight));
  ISTHMUS_ASSIGN_OR_RETURN(const HeadProjector::Prepared prepared, projector_->Prepare(head, step, fresh));
  host.finite = prepared.finite;
  host.sums.rank = prepared.rank;
  host.sums.projector_energy = prepared.energy;
  host.sums.not_factored = prepared.not_factored;
  sample_finder_->Rewind(step);
  seconds_.projector = laps.Next();
  return absl::OkStatus();
}

absl::Status HeadDecomposition::AddHeadDirections(const Tensor& weight) {
  for (int64_t begin = 0; begin < weight.rows; begin += shape_.row_block()) {
    const Tensor rows = weight.RowSlice(begin, std::min(shape_.row_block(), weight.rows - begin));
    const Tensor squares = memory_.squares.ColumnSlice(0, rows.rows);
    ISTHMUS_RETURN_IF_ERROR(RowDots({.x = rows, .y = rows, .dots = squares}, stream_));
    ISTHMUS_RETURN_IF_ERROR(AddUnitRows({.x = rows, .squares = squares, .total = memory_.head_unit_sum}, stream_));
  }
  return absl::OkStatus();
}

absl::Status HeadDecomposition::PlaceSample(int64_t micro_batches) {
  Host& host = *host_;
  if (stream_.dry()) {
    const int64_t bytes = micro_batches * shape_.sampled * SizeOf(DType::kInt32);
    host.placed = Tensor(stream_.recorder()->Addresses(bytes), DType::kInt32, micro_batches, shape_.sampled);
    return absl::OkStatus();
  }
  ISTHMUS_ASSIGN_OR_RETURN(host.placed, host.positions.Room(DType::kInt32, micro_batches, shape_.sampled, stream_));
  auto* positions = host.placed.As<int32_t>();
  std::fill_n(positions, host.placed.size(), -1);
  for (int64_t index = 0; index < micro_batches; ++index, positions += shape_.sampled) {
    const TokenSample::Part part = host.sample.In(host.first_token + index * shape_.tokens, shape_.tokens);
    for (int64_t i = 0; i < part.count; ++i) {
      positions[part.first + i] = static_cast<int32_t>(part.offset + i * host.sample.stride);
    }
  }
  return absl::OkStatus();
}

absl::Status HeadDecomposition::BeginMicroBatch(int64_t index) {
  if (!host_->not_linear.empty()) return absl::OkStatus();
  host_->micro_batch = index;
  return StartCopyFromHost(host_->placed.RowSlice(index, 1), memory_.positions, stream_);
}

absl::StatusOr<Tensor> HeadDecomposition::TargetRows(const HeadView& head, const Tensor& targets, int64_t begin,
                                                     int64_t count) {
  const int ranks = mesh_.tensor_ranks();
  const Tensor& all = ranks > 1 ? memory_.all_target_rows : memory_.target_rows;
  // Rows of tokens that a rank does not have are whatever was there: nobody reads them.
  for (int rank = 0; rank < ranks; ++rank) {
    const Range tokens = shape_.OwnTokens(rank);
    const int64_t present = std::clamp<int64_t>(tokens.size() - begin, 0, shape_.token_chunk());
    if (present == 0) continue;
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward({.ids = targets.ColumnSlice(tokens.begin + begin, present),
                                              .table = head.weight,
                                              .first_row = head.rows.begin,
                                              .y = all.RowSlice(rank * shape_.token_chunk(), present)},
                                             stream_));
  }
  if (ranks > 1) ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().ReduceScatter(all, memory_.target_rows));
  Tensor rows = memory_.target_rows.RowSlice(0, count);
  if (memory_.wide_target_rows.defined()) {
    const Tensor wide = memory_.wide_target_rows.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = rows, .y = wide}, stream_));
    rows = wide;
  }
  return rows;
}

absl::Status HeadDecomposition::AddMicroBatch(const HeadView& head, const Tensor& all_hidden, const Tensor& targets) {
  const TraceRange range(stream_, "tokens");
  if (!head.not_linear.empty()) return absl::OkStatus();
  if (host_->dump != nullptr) ISTHMUS_RETURN_IF_ERROR(host_->dump->Add(all_hidden, stream_));
  const Range own = shape_.OwnTokens(mesh_.tensor_rank());
  const Tensor hidden = all_hidden.RowSlice(own.begin, own.size());
  const Tensor signal = head.signal_is_local ? head.signal : head.signal.RowSlice(own.begin, own.size());
  ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(signal, signal, memory_.signal_gram, stream_));
  ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(signal, hidden, memory_.signal_hidden, stream_));
  ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(hidden, hidden, memory_.hidden_gram, stream_));
  const Tensor squares = memory_.squares.ColumnSlice(0, own.size());
  ISTHMUS_RETURN_IF_ERROR(RowDots({.x = hidden, .y = hidden, .dots = squares}, stream_));
  ISTHMUS_RETURN_IF_ERROR(AddUnitRows({.x = hidden, .squares = squares, .total = memory_.hidden_unit_sum}, stream_));

  // What the projector multiplies must not be rounded to the compute type before: a condition of some hundreds would
  // make of bf16's rounding more than there is to measure.
  Tensor wide_signal = signal;
  if (memory_.signal.defined()) {
    if (mesh_.tensor_ranks() > 1) {
      ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().ReduceScatter(memory_.shard_signal, memory_.signal));
    }
    wide_signal = memory_.signal;
  }
  for (int64_t chunk = 0; chunk < shape_.token_chunks(); ++chunk) {
    const int64_t begin = chunk * shape_.token_chunk();
    const int64_t count = std::clamp<int64_t>(own.size() - begin, 0, shape_.token_chunk());
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor target_rows, TargetRows(head, targets, begin, count));
    if (count == 0) continue;
    const Tensor part = wide_signal.RowSlice(begin, count);
    const Tensor projected = memory_.projected.RowSlice(0, count);
    const Tensor target_basis = memory_.target_basis.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(projector_->Project(part, target_rows, projected, target_basis));
    ISTHMUS_RETURN_IF_ERROR(
        RowDots({.x = projected, .y = projected, .dots = memory_.retained.ColumnSlice(begin, count)}, stream_));
    ISTHMUS_RETURN_IF_ERROR(
        RowDots({.x = projected, .y = target_basis, .dots = memory_.target_dots.ColumnSlice(begin, count)}, stream_));
  }

  // Tokens that are not of this micro-batch read as zero.
  ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
      {.ids = memory_.positions, .table = all_hidden, .first_row = 0, .y = memory_.found_hidden}, stream_));
  return Add({.x = memory_.found_hidden, .y = memory_.sampled_hidden}, stream_);
}

absl::Status HeadDecomposition::EndMicroBatch() {
  Host& host = *host_;
  if (!host.not_linear.empty()) return absl::OkStatus();
  Host::MicroBatchFigures& figures = host.figures[static_cast<size_t>(host.micro_batch % 2)];
  ISTHMUS_RETURN_IF_ERROR(figures.copies.Start(
      {memory_.loss, memory_.log_sum_exp, memory_.energy, memory_.retained, memory_.target_dots}, stream_));
  ISTHMUS_RETURN_IF_ERROR(AddWaitingTokens());
  host.waiting = host.micro_batch;
  return absl::OkStatus();
}

absl::Status HeadDecomposition::AddWaitingTokens() {
  Host& host = *host_;
  if (!host.waiting.has_value() || stream_.dry()) return absl::OkStatus();
  const int64_t micro_batch = *host.waiting;
  const Host::MicroBatchFigures& figures = host.figures[static_cast<size_t>(micro_batch % 2)];
  ISTHMUS_ASSIGN_OR_RETURN(const auto copies, figures.copies.Wait());
  host.waiting.reset();
  const Range own = shape_.OwnTokens(mesh_.tensor_rank());
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix loss, Widened(copies[Host::kTokenLoss]));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix log_sum_exp, Widened(copies[Host::kTokenLogSumExp]));
  const auto energy = ViewOf(copies[Host::kTokenEnergy]), retained = ViewOf(copies[Host::kTokenRetained]),
             target_dots = ViewOf(copies[Host::kTokenTargetDot]);
  HeadSums& sums = host.sums;
  const double scale = host.scale;
  for (int64_t n = own.begin; n < own.end; ++n) {
    const int64_t i = n - own.begin;
    const double target = std::expm1(-loss(0, n));  // p_y - 1
    const double norm = std::sqrt(energy.col(n).sum()), kept = retained(0, i), kept_target = target_dots(0, i);
    sums.loss += loss(0, n) * scale;
    sums.retained_energy += kept;
    sums.target_sum += target * scale;
    sums.target_energy += target * target * scale * scale;
    sums.retained_target_sum += kept_target;
    sums.retained_target_energy += kept_target * kept_target;
    sums.token_gradient.Add(norm);
    sums.retained_ratio.Add(norm > 0 ? std::sqrt(kept) / (norm * scale) : 0);
  }
  const TokenSample::Part part = host.sample.In(host.first_token + micro_batch * shape_.tokens, shape_.tokens);
  const auto* targets = host.targets.As<int32_t>() + micro_batch * shape_.tokens;
  for (int64_t k = 0; k < part.count; ++k) {
    const int64_t n = part.offset + k * host.sample.stride;
    if (n < own.begin || n >= own.end) continue;  // another tensor rank's
    host.sampled.row(part.first + k) << loss(0, n), log_sum_exp(0, n), targets[n], retained(0, n - own.begin);
    sums.sampled_retained += retained(0, n - own.begin);
  }
  return absl::OkStatus();
}

// The Gram matrix of this rank's rows of the head's gradient. It comes in the sums' type and is as good for sums when
// it is rounded to the weights' first, a block at a time: what rounding adds to a square is 2⁻¹⁸ of it.
absl::Status HeadDecomposition::AddGradientGram(const Tensor& gradient) {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.part_gram}, stream_));
  if (gradient.dtype == shape_.type) return memory_.AddGram(gradient, gradient, memory_.part_gram, stream_);
  for (int64_t begin = 0; begin < gradient.rows; begin += shape_.row_block()) {
    const Tensor block = gradient.RowSlice(begin, std::min(shape_.row_block(), gradient.rows - begin));
    const Tensor rows = memory_.row_block.RowSlice(0, block.rows);
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = block, .y = rows}, stream_));
    ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(rows, rows, memory_.part_gram, stream_));
  }
  return absl::OkStatus();
}

absl::Status HeadDecomposition::AddBucketEnergy(const HeadView& head, int bucket, InnerProducts& products) {
  const Range places = bucket_rows_[static_cast<size_t>(bucket)];
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.part_gram}, stream_));
  for (int64_t begin = places.begin; begin < places.end; begin += shape_.row_block()) {
    const int64_t count = std::min(shape_.row_block(), places.end - begin);
    const Tensor rows = memory_.row_block.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
        {.ids = memory_.frequent_rows.ColumnSlice(begin, count), .table = head.weight, .first_row = 0, .y = rows},
        stream_));
    const Tensor basis = memory_.row_block_basis.RowSlice(0, count);
    if (shape_.split) {  // for a share of the energy the basis may be rounded afterwards, as F is
      ISTHMUS_RETURN_IF_ERROR(SplitMatmul({.a = rows, .b = memory_.projector_parts, .c = basis}, stream_));
      ISTHMUS_RETURN_IF_ERROR(Cast({.x = basis, .y = rows}, stream_));
      ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(rows, rows, memory_.part_gram, stream_));
      continue;
    }
    const Tensor wide = memory_.wide_row_block.RowSlice(0, count);
    if (wide.dtype != rows.dtype) ISTHMUS_RETURN_IF_ERROR(Cast({.x = rows, .y = wide}, stream_));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = wide, .b = memory_.projector, .c = basis}, stream_));
    ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(basis, basis, memory_.part_gram, stream_));
  }
  return products.Add(memory_.projected_gram, memory_.part_gram);
}

// tr(FᵀF · Pᵀ M_S P) = <M_S P, P FᵀF>, in fp64: the condition enters squared.
absl::Status HeadDecomposition::AddShardEnergy(InnerProducts& products) {
  if (mesh_.tensor_ranks() == 1) return products.AddTrace(memory_.projected_gram);  // the shard is the head
  const Tensor &rows = memory_.first_square, &tokens = memory_.second_square;
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = memory_.shard_gram, .b = memory_.wide_projector, .c = rows}, stream_));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = memory_.wide_projector, .b = memory_.projected_gram, .c = tokens}, stream_));
  return products.Add(rows, tokens);
}

// Computes the sampled tokens' G_s G_sᵀ, and their lost part by itself.
absl::Status HeadDecomposition::AddSample(const HeadView& head) {
  const TraceRange range(stream_, "sample");
  Host& host = *host_;
  const int64_t count = host.sample.count;
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduce(memory_.sampled_hidden.Reshape(1, memory_.sampled_hidden.size())));
  const Tensor hidden = memory_.sampled_hidden.RowSlice(0, count);
  Tensor input = hidden;
  if (shape_.has_down) {
    input = memory_.sampled_input.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(head.down->Forward(hidden, input, stream_));
  }
  const Range own = own_rows();
  SampledGradient gradient(shape_, memory_, mesh_, head.weight.RowSlice(own.begin, own.size()),
                           head.rows.begin + own.begin, input, host.sampled, stream_);
  const double square = host.scale * host.scale;
  ISTHMUS_ASSIGN_OR_RETURN(host.sums.sample_gram, gradient.Gram());
  host.sums.sample_gram *= square;
  if (!stream_.dry()) {  // a large sample's would take gigabytes
    ISTHMUS_ASSIGN_OR_RETURN(host.sums.sampled_hidden, HostCopy(hidden, stream_));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const SampledGradient::Energies tested, gradient.Test());
  host.sums.self_test = {.energy = tested.energy * square,
                         .retained = tested.retained,
                         .lost = tested.lost * square,
                         .lost_passed_on = tested.lost_passed_on * square};
  return absl::OkStatus();
}

absl::Status HeadDecomposition::EndStep(const HeadView& head, const std::vector<double>& energy) {
  const TraceRange range(stream_, "sums");
  if (!host_->not_linear.empty()) return SumLayerSquares();
  if (!host_->finite) {
    return absl::InternalError("the head is not finite: the head decomposition has no value");
  }
  ISTHMUS_RETURN_IF_ERROR(AddWaitingTokens());
  Laps laps;
  ISTHMUS_RETURN_IF_ERROR(AddUpdate(head));
  seconds_.update = laps.Next();
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix hidden_unit_sum, HostCopy(memory_.hidden_unit_sum, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(Matrix head_unit_sum, HostCopy(memory_.head_unit_sum, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(host_->layer_squares, HostCopy(memory_.layer_squares, stream_));
  if (!shape_.sequence_parallel && mesh_.tensor_rank() != 0) host_->layer_squares.setZero();
  ISTHMUS_ASSIGN_OR_RETURN(PartEnergies parts, EnergiesOfParts(head, energy));
  seconds_.parts = laps.Next();
  ISTHMUS_RETURN_IF_ERROR(
      ReduceSums(parts, absl::MakeSpan(head_unit_sum.data(), static_cast<size_t>(head_unit_sum.size()))));
  ISTHMUS_RETURN_IF_ERROR(AddSample(head));
  seconds_.sample = laps.Next();
  AddParts(parts);
  host_->sums.hidden_unit_sum = hidden_unit_sum.transpose();
  host_->sums.head_unit_sum = head_unit_sum.transpose();
  return absl::OkStatus();
}

// Sums the Gram matrices of the tokens over the mesh, and finds what the step does to the logits.
absl::Status HeadDecomposition::AddUpdate(const HeadView& head) {
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(memory_.sums));
  Tensor gradient = head.gradient;
  if (shape_.in_embedding) {
    // What the embedding look-up added is taken off again.
    const Tensor& embedding = memory_.embedding_gradient;
    ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduce(embedding.Reshape(1, embedding.size())));
    ISTHMUS_RETURN_IF_ERROR(SubtractFrom({.x = gradient, .y = embedding}, stream_));
    gradient = embedding;
  }
  ISTHMUS_RETURN_IF_ERROR(AddGradientGram(gradient.RowSlice(own_rows().begin, own_rows().size())));
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(memory_.part_gram));
  ISTHMUS_ASSIGN_OR_RETURN(host_->sums.update, SumUpdate({.head_gram = memory_.head_gram,
                                                          .signal_gram = memory_.signal_gram,
                                                          .signal_hidden = memory_.signal_hidden,
                                                          .hidden_gram = memory_.hidden_gram,
                                                          .gradient_gram = memory_.part_gram,
                                                          .down = memory_.down},
                                                         memory_.update, stream_));
  return absl::OkStatus();
}

// This rank's part of each: the sum over the mesh is the whole. `energy` as in EndStep.
absl::StatusOr<HeadDecomposition::PartEnergies> HeadDecomposition::EnergiesOfParts(const HeadView& head,
                                                                                   const std::vector<double>& energy) {
  const auto tensor_rank = static_cast<size_t>(mesh_.tensor_rank()), ranks = static_cast<size_t>(mesh_.tensor_ranks());
  PartEnergies parts = {.shards = std::vector<double>(ranks, 0.0),
                        .retained_shards = std::vector<double>(ranks, 0.0),
                        .buckets = std::vector<double>(kFrequencyBuckets, 0.0),
                        .retained_buckets = std::vector<double>(kFrequencyBuckets, 0.0)};
  if (tensor_rank == 0) {
    for (size_t i = 0; i < ranks; ++i) parts.shards[i] = energy[i] * host_->scale * host_->scale;
  }
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix row_energy, HostCopy(memory_.row_energy, stream_));
  for (int64_t row = 0; row < shape_.shard.size(); ++row) {
    parts.buckets[bucket_of_row_[static_cast<size_t>(row)]] += row_energy(0, row);
  }
  InnerProducts products(memory_.update.dots, memory_.update.sums, stream_);
  ISTHMUS_RETURN_IF_ERROR(AddShardEnergy(products));
  for (int bucket = 0; bucket + 1 < kFrequencyBuckets; ++bucket) {
    ISTHMUS_RETURN_IF_ERROR(AddBucketEnergy(head, bucket, products));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> retained, products.Values());
  if (mesh_.data_rank() == 0) parts.retained_shards[tensor_rank] = retained.front();
  std::copy(retained.begin() + 1, retained.end(), parts.retained_buckets.begin());
  return parts;
}

// Sums the host's figures over the mesh.
absl::Status HeadDecomposition::ReduceSums(PartEnergies& parts, absl::Span<double> head_unit_sum) {
  Host& host = *host_;
  HeadSums& sums = host.sums;
  PackedSum packed;
  for (double* number : {&sums.loss, &sums.retained_energy, &sums.target_energy, &sums.retained_target_energy,
                         &sums.target_sum, &sums.retained_target_sum, &sums.sampled_retained}) {
    packed.Add(*number);
  }
  packed.Add(sums.retained_ratio);
  packed.Add(sums.token_gradient);
  for (auto* numbers : {&parts.shards, &parts.retained_shards, &parts.buckets, &parts.retained_buckets}) {
    packed.Add(absl::MakeSpan(*numbers));
  }
  packed.Add(head_unit_sum);
  for (Matrix* matrix : {&host.layer_squares, &host.sampled}) {
    packed.Add(absl::MakeSpan(matrix->data(), static_cast<size_t>(matrix->size())));
  }
  return packed.Reduce(mesh_.world());
}

void HeadDecomposition::AddParts(PartEnergies& parts) {
  HeadSums& sums = host_->sums;
  // The rest of the vocabulary has what the other buckets have not.
  parts.retained_buckets.back() = sums.retained_energy;
  for (size_t i = 0; i + 1 < kFrequencyBuckets; ++i) parts.retained_buckets.back() -= parts.retained_buckets[i];
  for (size_t i = 0; i < parts.shards.size(); ++i) {
    const int64_t rows = ShardOf(shape_.vocabulary, shape_.tensor_ranks, static_cast<int>(i)).size();
    sums.shards.push_back({rows, parts.shards[i], parts.retained_shards[i]});
  }
  for (size_t i = 0; i < kFrequencyBuckets; ++i) {
    sums.buckets.push_back({bucket_sizes_[i], parts.buckets[i], parts.retained_buckets[i]});
  }
}

int64_t HeadDecomposition::UseFoundSampleSpectrum() {
  HeadSums& sums = host_->sums;
  if (sums.sample_gram.rows() <= kSpectrumWithinAStep) return host_->step;
  const bool waits = host_->fresh && sums.sample_gram.rows() <= kLargestAwaitedSample;
  // If the search can't begin for lack of memory, the next measured step tries again.
  if (mesh_.world().rank() == 0 && sample_finder_->Wants(host_->step, host_->fresh)) {
    sample_finder_->Begin(TensorOf(sums.sample_gram), host_->step, waits, Stream()).IgnoreError();
  }
  const SpectrumFinder::Found& found = sample_finder_->Latest(waits);
  sums.sample_eigenvalues = found.values;
  return found.step;
}

absl::Status HeadDecomposition::SumLayerSquares() {
  Host& host = *host_;
  ISTHMUS_ASSIGN_OR_RETURN(host.layer_squares, HostCopy(memory_.layer_squares, stream_));
  if (!shape_.sequence_parallel && mesh_.tensor_rank() != 0) host.layer_squares.setZero();
  return mesh_.world().AllReduceNumbers(
      absl::MakeSpan(host.layer_squares.data(), static_cast<size_t>(host.layer_squares.size())));
}

void HeadDecomposition::Conclude() {
  Laps laps;
  Host& host = *host_;
  result_ = {};
  host.dump = nullptr;
  for (const double square : host.layer_squares.reshaped()) result_.layer_gradient_norms.push_back(std::sqrt(square));
  if (!host.not_linear.empty()) {
    result_.head.not_measured = host.not_linear;
    result_.head.linear = false;
    return;
  }
  HeadSums& sums = host.sums;
  const SpectrumFinder::Found& spectrum = projector_->SingularValues(host.fresh);
  sums.singular_values_rank = spectrum.rank;
  sums.singular_values = Eigen::Map<const Eigen::VectorXd>(spectrum.values.data(), std::ssize(spectrum.values));
  const int64_t sample_step = UseFoundSampleSpectrum();
  result_.head = MakeMeasurement(sums);
  result_.head.weight.step = spectrum.step;
  result_.head.spectrum.step = sample_step;
  seconds_.figures = laps.Next();
}

}  // namespace isthmus
