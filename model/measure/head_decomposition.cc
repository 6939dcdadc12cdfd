#include "model/measure/head_decomposition.h"

#include <absl/memory/memory.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "model/algebra/symmetric.h"
#include "model/measure/head_projection.h"
#include "model/measure/head_projector.h"
#include "model/measure/head_sums.h"
#include "model/measure/head_update.h"
#include "model/measure/jacobian_sample.h"
#include "model/measure/layer_measurement.h"
#include "model/measure/logit_gradient.h"
#include "model/measure/mesh_sum.h"
#include "model/measure/packed_sum.h"
#include "model/measure/part_energies.h"
#include "model/measure/part_shares.h"
#include "model/measure/sampled_gradient.h"
#include "model/measure/spectrum_finder.h"
#include "model/measure/step_tokens.h"
#include "model/measure/token_figures.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reductions.h"
#include "runtime/device.h"
#include "runtime/status.h"
#include "runtime/trace_range.h"

namespace isthmus {
namespace {

// Next returns the seconds since the last call.
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

struct HeadDecomposition::StepState {
  HeadSums sums;
  bool over_vocabulary = true;  // the loss is over all of it, not over a sample of classes
  bool finite = true;
  int64_t step = 0;
  bool fresh = false;      // the singular values must be of this step
  std::string not_linear;  // HeadView::not_linear
  HeadDump* dump = nullptr;
  std::optional<VisibleShares> visible;
};

ArenaLayout HeadDecomposition::Layout(const MeasurementShape& shape) {
  TensorPlacer placer;
  MeasurementMemory::Place(shape, placer);
  return placer.layout();
}

HeadDecomposition::HeadDecomposition(const MeasurementShape& shape, const Mesh& mesh, Stream& stream)
    : shape_(shape), mesh_(mesh), stream_(stream), state_(std::make_unique<StepState>()) {}

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
  made->tokens_ = std::make_unique<StepTokens>(made->shape_, made->memory_, mesh, *made->projector_, stream);
  made->layers_ = std::make_unique<LayerMeasurement>(made->shape_, made->memory_, mesh, stream);
  made->jacobians_ = std::make_unique<JacobianSample>(config.telemetry().jacobian_tokens(), shape.form, mesh, stream);
  made->parts_ = std::make_unique<PartShares>(made->shape_, made->memory_, mesh, stream);
  made->sample_finder_ = std::make_unique<SpectrumFinder>(shape.sampled, [](const Tensor& gram) {
    const Eigen::VectorXd values = Eigenvalues(gram);
    return std::vector<double>(values.begin(), values.end());
  });
  const MeasurementMemory& memory = made->memory_;
  made->head_observation_ = {memory.tokens.loss, memory.tokens.log_sum_exp, memory.tokens.energy,
                             memory.parts.row_energy, memory.tokens.shard_signal};
  made->parts_->SetBuckets(token_counts);
  ISTHMUS_RETURN_IF_ERROR(made->parts_->Place(nullptr));
  return made;
}

void HeadDecomposition::Dump(HeadDump* dump) { state_->dump = dump; }

StepObserver::Observed HeadDecomposition::observed() const {
  return {linear() ? &head_observation_ : nullptr,
          {memory_.layers.gradient_squares, memory_.embedding_gradient, memory_.layers.stream}};
}

bool HeadDecomposition::linear() const { return state_->not_linear.empty(); }

bool HeadDecomposition::capturable() const { return state_->dump == nullptr && !jacobians_->takes_any(); }

absl::Status HeadDecomposition::UseClasses(const HeadView& head) {
  if (head.classes == nullptr && state_->over_vocabulary) return absl::OkStatus();
  state_->over_vocabulary = head.classes == nullptr;
  shape_.shard = head.rows;
  shape_.vocabulary = state_->over_vocabulary ? parts_->vocabulary() : std::ssize(head.classes->rows);
  return parts_->Place(head.classes);
}

absl::Status HeadDecomposition::BeginStep(const HeadView& head, const Beginning& begun) {
  const TraceRange range(stream_, "projector");
  StepState& state = *state_;
  state.not_linear = head.not_linear;
  jacobians_->Begin(begun.local_tokens, begun.targets.RowSlice(0, 1));
  ISTHMUS_RETURN_IF_ERROR(layers_->Begin(begun.local_tokens));
  if (!head.not_linear.empty()) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(UseClasses(head));
  const Tensor targets = state_->over_vocabulary ? begun.targets : head.classes->step_targets;
  if (state.dump != nullptr) {
    ISTHMUS_RETURN_IF_ERROR(state.dump->Begin(head, targets.RowSlice(0, 1), shape_.hidden_width, stream_));
  }
  Laps laps;
  seconds_ = {};
  state.sums = HeadSums();
  state.sums.tokens = begun.local_tokens * mesh_.data_ranks();
  state.sums.vocabulary = shape_.vocabulary;
  state.sums.width = shape_.width;
  state.sums.arithmetic = shape_.sum_type();
  state.step = begun.step;
  state.fresh = begun.last || state.dump != nullptr;
  ISTHMUS_RETURN_IF_ERROR(tokens_->Begin(begun.local_tokens, targets, begun.future_weights));
  for (const Tensor& sum : {memory_.sums.all, memory_.head.unit_sum, memory_.parts.row_energy, memory_.sample.hidden,
                            memory_.embedding_gradient}) {
    if (sum.defined()) ISTHMUS_RETURN_IF_ERROR(SetZero({.x = sum}, stream_));
  }
  const Tensor weight = head.weight.RowSlice(own_rows().begin, own_rows().size());
  ISTHMUS_RETURN_IF_ERROR(AddHeadDirections(weight));
  ISTHMUS_ASSIGN_OR_RETURN(const HeadProjector::Prepared prepared, projector_->Prepare(head, state.step, state.fresh));
  state.finite = prepared.finite;
  state.sums.rank = prepared.rank;
  state.sums.projector_energy = prepared.energy;
  state.sums.not_factored = prepared.not_factored;
  sample_finder_->Rewind(state.step);
  seconds_.projector = laps.Next();
  return absl::OkStatus();
}

absl::Status HeadDecomposition::AddHeadDirections(const Tensor& weight) {
  for (int64_t begin = 0; begin < weight.rows; begin += shape_.row_block()) {
    const Tensor rows = weight.RowSlice(begin, std::min(shape_.row_block(), weight.rows - begin));
    const Tensor squares = memory_.squares.ColumnSlice(0, rows.rows);
    ISTHMUS_RETURN_IF_ERROR(RowDots({.x = rows, .y = rows, .dots = squares}, stream_));
    ISTHMUS_RETURN_IF_ERROR(AddUnitRows({.x = rows, .squares = squares, .total = memory_.head.unit_sum}, stream_));
  }
  return absl::OkStatus();
}

absl::Status HeadDecomposition::BeginMicroBatch(int64_t index) {
  ISTHMUS_RETURN_IF_ERROR(layers_->BeginMicroBatch(index));
  return linear() ? tokens_->BeginMicroBatch(index) : absl::OkStatus();
}

absl::Status HeadDecomposition::AddMicroBatch(const HeadView& head, const Tensor& hidden, const Tensor& targets) {
  const TraceRange range(stream_, "tokens");
  ISTHMUS_RETURN_IF_ERROR(jacobians_->Add(head, hidden));
  // A rehearsal has no step, and its head may have no view.
  if (!linear() || !head.not_linear.empty()) return absl::OkStatus();
  if (state_->dump != nullptr) ISTHMUS_RETURN_IF_ERROR(state_->dump->Add(hidden, stream_));
  return tokens_->Add(head, hidden, state_->over_vocabulary ? targets : head.classes->targets);
}

absl::Status HeadDecomposition::EndMicroBatch() { return linear() ? tokens_->EndMicroBatch() : absl::OkStatus(); }

// Finds the Gram matrix of this rank's rows of the head's gradient. The gradient comes in the sums' type. It may be
// rounded to the weights' type first, a block at a time: rounding adds only 2⁻¹⁸ of a square to that square.
absl::Status HeadDecomposition::AddGradientGram(const Tensor& gradient) {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.head.part_gram}, stream_));
  if (gradient.dtype == shape_.type) return memory_.AddGram(gradient, gradient, memory_.head.part_gram, stream_);
  for (int64_t begin = 0; begin < gradient.rows; begin += shape_.row_block()) {
    const Tensor block = gradient.RowSlice(begin, std::min(shape_.row_block(), gradient.rows - begin));
    const Tensor rows = memory_.parts.row_block.RowSlice(0, block.rows);
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = block, .y = rows}, stream_));
    ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(rows, rows, memory_.head.part_gram, stream_));
  }
  return absl::OkStatus();
}

// Computes the sampled tokens' G_s G_sᵀ, and their lost part by itself.
absl::Status HeadDecomposition::AddSample(const HeadView& head) {
  const TraceRange range(stream_, "sample");
  HeadSums& sums = state_->sums;
  const SampledTokens& sampled = tokens_->sampled();
  const int64_t count = sampled.sample.count;
  ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduce(memory_.sample.hidden.Reshape(1, memory_.sample.hidden.size())));
  const Tensor hidden = memory_.sample.hidden.RowSlice(0, count);
  Tensor input = hidden;
  if (shape_.has_down) {
    input = memory_.sample.input.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(head.down->Forward(hidden, input, stream_));
  }
  const Range own = own_rows();
  const LogitRows rows = LogitRows{head.weight, head.bias}.Slice(own.begin, own.size());
  SampledGradient gradient(shape_, memory_, mesh_, rows, head.rows.begin + own.begin, input, sampled, stream_);
  const double square = tokens_->scale() * tokens_->scale();
  ISTHMUS_ASSIGN_OR_RETURN(sums.sample_gram, gradient.Gram());
  sums.sample_gram *= square;
  if (!stream_.dry()) {  // a large sample's would take gigabytes
    ISTHMUS_ASSIGN_OR_RETURN(sums.sampled_hidden, HostCopy(hidden, stream_));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const SampledGradient::Energies tested, gradient.Test());
  sums.self_test = {.energy = tested.energy * square,
                    .retained = tested.retained,
                    .lost = tested.lost * square,
                    .lost_passed_on = tested.lost_passed_on * square};
  return absl::OkStatus();
}

absl::Status HeadDecomposition::EndStep(const HeadView& head, const std::vector<double>& energy) {
  const TraceRange range(stream_, "sums");
  ISTHMUS_ASSIGN_OR_RETURN(state_->visible, jacobians_->Sum());
  Laps laps;
  ISTHMUS_RETURN_IF_ERROR(layers_->Finish());
  seconds_.layers = laps.Next();
  if (!linear()) return mesh_.world().AllReduceNumbers(layers_->sums());
  if (!state_->finite) {
    return absl::InternalError("the head is not finite: the head decomposition has no value");
  }
  ISTHMUS_RETURN_IF_ERROR(tokens_->Finish());
  laps.Next();
  ISTHMUS_RETURN_IF_ERROR(AddUpdate(head));
  seconds_.update = laps.Next();
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix hidden_unit_sum, HostCopy(memory_.sums.hidden_unit_sum, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(Matrix head_unit_sum, HostCopy(memory_.head.unit_sum, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(PartEnergies parts, parts_->Energies(head, energy, tokens_->scale()));
  seconds_.parts = laps.Next();
  ISTHMUS_RETURN_IF_ERROR(
      ReduceSums(parts, absl::MakeSpan(head_unit_sum.data(), static_cast<size_t>(head_unit_sum.size()))));
  HeadSums& sums = state_->sums;
  sums.token = tokens_->sums();
  sums.hidden_unit_sum = hidden_unit_sum.transpose();
  sums.head_unit_sum = head_unit_sum.transpose();
  parts_->AddTo(sums, std::move(parts));
  ISTHMUS_RETURN_IF_ERROR(AddSample(head));
  seconds_.sample = laps.Next();
  return absl::OkStatus();
}

// Sums the Gram matrices of the tokens over the mesh, and finds how the step changes the logits.
absl::Status HeadDecomposition::AddUpdate(const HeadView& head) {
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(memory_.sums.all, mesh_));
  Tensor gradient = head.gradient;
  if (shape_.in_embedding) {
    // This subtracts what the embedding look-up added.
    const Tensor& embedding = memory_.embedding_gradient;
    ISTHMUS_RETURN_IF_ERROR(mesh_.data().AllReduce(embedding.Reshape(1, embedding.size())));
    ISTHMUS_RETURN_IF_ERROR(SubtractFrom({.x = gradient, .y = embedding}, stream_));
    gradient = embedding;
  }
  ISTHMUS_RETURN_IF_ERROR(AddGradientGram(gradient.RowSlice(own_rows().begin, own_rows().size())));
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(memory_.head.part_gram, mesh_));
  ISTHMUS_ASSIGN_OR_RETURN(state_->sums.update, SumUpdate({.head_gram = memory_.head.gram,
                                                           .signal_gram = memory_.sums.signal_gram,
                                                           .signal_hidden = memory_.sums.signal_hidden,
                                                           .hidden_gram = memory_.sums.hidden_gram,
                                                           .gradient_gram = memory_.head.part_gram,
                                                           .down = memory_.head.down},
                                                          memory_.update, stream_));
  return absl::OkStatus();
}

// Sums the host's figures over the mesh.
absl::Status HeadDecomposition::ReduceSums(PartEnergies& parts, absl::Span<double> head_unit_sum) {
  Matrix& sampled = tokens_->sampled().figures;
  PackedSum packed;
  tokens_->sums().AddTo(packed);
  parts.AddTo(packed);
  packed.Add(head_unit_sum);
  packed.Add(layers_->sums());
  packed.Add(absl::MakeSpan(sampled.data(), static_cast<size_t>(sampled.size())));
  return packed.Reduce(mesh_.world());
}

int64_t HeadDecomposition::UseFoundSampleSpectrum() {
  HeadSums& sums = state_->sums;
  if (sums.sample_gram.rows() <= kSpectrumWithinAStep) return state_->step;
  const bool waits = state_->fresh && sums.sample_gram.rows() <= kLargestAwaitedSample;
  // If the search can't begin for lack of memory, the next measured step tries again.
  if (mesh_.world().rank() == 0 && sample_finder_->Wants(state_->step, state_->fresh)) {
    sample_finder_->Begin(TensorOf(sums.sample_gram), state_->step, waits, Stream()).IgnoreError();
  }
  const SpectrumFinder::Found& found = sample_finder_->Latest(waits);
  sums.sample_eigenvalues = found.values;
  return found.step;
}

void HeadDecomposition::Conclude() {
  Laps laps;
  StepState& state = *state_;
  result_ = {};
  state.dump = nullptr;
  result_.layers = layers_->Figures();
  if (!state.not_linear.empty()) {
    result_.head.not_measured = state.not_linear;
    result_.head.linear = false;
    result_.head.visible = state.visible;
    return;
  }
  HeadSums& sums = state.sums;
  const SpectrumFinder::Found& spectrum = projector_->SingularValues(state.fresh);
  sums.singular_values_rank = spectrum.rank;
  sums.singular_values = Eigen::Map<const Eigen::VectorXd>(spectrum.values.data(), std::ssize(spectrum.values));
  sums.singular_values_step = spectrum.step;
  sums.sample_step = UseFoundSampleSpectrum();
  result_.head = MakeMeasurement(sums);
  result_.head.visible = state.visible;
  seconds_.figures = laps.Next();
}

}  // namespace isthmus
