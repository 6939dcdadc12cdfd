// Measures how the LM head changes the gradient of a training step (DESIGN 4; arXiv:2603.10145). The figures are
// collected while the step runs. They hold for the whole cluster, for every shard of the vocabulary and every bucket of
// token frequency.
//
// G = ∂L/∂Z is N×V and never exists. Before the step the head's Gram matrix M = WᵀW is factored, so that P with M⁺ = P
// Pᵀ is known while tokens pass. Backpropagation computes A = G W. A token's retained gradient has the norm of its row
// of F = A P. The columns of W P are an orthonormal basis; its rows tell where in the vocabulary the gradient lies:
//
//   ‖G_∥‖² = ‖F‖²,   ‖G_∥[:, S]‖² = tr((FᵀF)(PᵀW_SᵀW_S P)),   F = A P,   G_∥[n, y_n] = F_n · (w_{y_n} P)
//
// (model/measure/head_projector.h). Multiplying by P amplifies rounding errors in A by κ, the condition of W. With bf16
// weights A is therefore taken in fp32, before it is rounded. If κ is too large even for that, the figures that come
// from F are left out (HeadFigures::not_measured). F is as large as G_∥, where A M⁺ would be larger by up to κ.
//
// Ranks exchange matrices of the head's width squared and the sampled tokens' hidden states. A rank also needs its
// tokens' targets' rows of W. For these ranks exchange one tensor as large as the hidden states, or two with bf16
// weights. If the head is the embedding table or the optimizer is sharded, the head's gradient also crosses the data
// ranks once more.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_DECOMPOSITION_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_DECOMPOSITION_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/heads/softmax_loss.h"
#include "model/measure/head_dump.h"
#include "model/measure/head_figures.h"
#include "model/measure/layer_figures.h"
#include "model/measure/measurement_memory.h"
#include "model/step_observer.h"
#include "parallel/mesh.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace isthmus {

class HeadDecomposition : public StepObserver {
 public:
  // `token_counts` says how often each token of the vocabulary occurs, for the buckets of frequency. If it is empty,
  // all tokens count alike. `mesh` and `stream` must outlive the decomposition. Returns null for a run that never
  // measures its head.
  static absl::StatusOr<std::unique_ptr<HeadDecomposition>> Create(const proto::RunConfig& config, const Mesh& mesh,
                                                                   Stream& stream,
                                                                   absl::Span<const uint64_t> token_counts = {});
  ~HeadDecomposition() override;

  // Describes the memory that Create allocates on the stream's device. The host also needs 64 bytes or more per token
  // of a micro-batch. Once singular values have been found, each thread that finds some holds a matrix of the head's
  // width squared. It holds several more if the head has not full rank.
  static ArenaLayout Layout(const MeasurementShape& shape);

  // Receives the tensors that the next step's figures are computed from; memory is then allocated. With null, none are
  // stored.
  void Dump(HeadDump* dump);

  int64_t bytes() const override { return arena_.bytes(); }
  Observed observed() const override;
  // The head's singular values move slowly and cost the most on the host. They are recomputed at the first measured
  // step of ten. Wide heads report the latest finished result, which may be older or still missing
  // (model/measure/head_projector.h). The last step, and a step that is dumped, has its own.
  absl::Status BeginStep(const HeadView& head, const Beginning& step) override;
  bool capturable() const override;
  absl::Status BeginMicroBatch(int64_t index) override;
  absl::Status AddMicroBatch(const HeadView& head, const Tensor& hidden, const Tensor& targets) override;
  absl::Status EndMicroBatch() override;
  // Errors: Internal when the head is not finite.
  absl::Status EndStep(const HeadView& head, const std::vector<double>& energy) override;
  // Takes some 10 ms for 256 sampled tokens. Waits for the head's singular values if they must be this step's. Every
  // rank gets the same figures, with two exceptions. Each rank finds a wide head's singular values in its own time.
  // With more than 1,024 sampled tokens, rank 0 of the world alone finds their singular values, beside training. If
  // they must be this step's, rank 0 waits for those of up to kLargestAwaitedSample tokens, half a minute for as many.
  void Conclude() override;

  struct Result {
    HeadFigures head;
    std::vector<LayerFigures> layers;  // of each layer's entrance, and at last of the final norm's
  };
  // The figures of the step that was concluded last.
  const Result& result() const { return result_; }

  // Seconds that the last measured step took on this rank, by the clock. They cover everything that does not grow with
  // the tokens: all but the Gram matrices and projections of AddMicroBatch.
  struct Seconds {
    double projector = 0;  // BeginStep: the head's Gram matrix and its factor
    double layers = 0;     // EndStep: the residual stream, of any head
    double update = 0;     // EndStep: the gradient's Gram matrix and what the step does to the logits
    double parts = 0;      // EndStep: shares of shards and buckets
    double sample = 0;     // EndStep: the gradient of the sampled tokens, and the self-test
    double figures = 0;    // Conclude
  };
  const Seconds& seconds() const { return seconds_; }
  // Returns whether a thread is finding singular values.
  bool finding() const;
  // Replaces what finds the eigenvalues of the sampled tokens' Gram matrix.
  void UseSampleFinder(std::unique_ptr<class SpectrumFinder> finder);

 private:
  struct StepState;  // of the step that is measured

  HeadDecomposition(const MeasurementShape& shape, const Mesh& mesh, Stream& stream);

  bool linear() const;
  absl::Status AddHeadDirections(const Tensor& weight);
  absl::Status AddGradientGram(const Tensor& gradient);
  absl::Status AddUpdate(const HeadView& head);
  absl::Status AddSample(const HeadView& head);
  absl::Status ReduceSums(struct PartEnergies& parts, absl::Span<double> head_unit_sum);
  // Returns the step of the sampled tokens' spectrum: an earlier one for a large sample, or 0 if none is known yet.
  int64_t UseFoundSampleSpectrum();
  Range own_rows() const { return shape_.OwnRows(mesh_.data_rank()); }

  // Takes the classes that the step is over.
  absl::Status UseClasses(const HeadView& head);

  MeasurementShape shape_;  // of this step's classes
  const Mesh& mesh_;
  Stream& stream_;
  Arena arena_;
  MeasurementMemory memory_;
  HeadObservation head_observation_;
  std::unique_ptr<class HeadProjector> projector_;
  std::unique_ptr<class StepTokens> tokens_;
  std::unique_ptr<class LayerMeasurement> layers_;
  std::unique_ptr<class PartShares> parts_;
  std::unique_ptr<class SpectrumFinder> sample_finder_;
  std::unique_ptr<class JacobianSample> jacobians_;
  std::unique_ptr<StepState> state_;
  Result result_;
  Seconds seconds_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_DECOMPOSITION_H_
