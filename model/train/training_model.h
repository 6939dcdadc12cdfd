// A training model is trained on one rank of a mesh. It holds weights, activations, head, gradient reduction and
// optimizer, and the optimizer step that ties them together.
#ifndef ISTHMUS_MODEL_TRAIN_TRAINING_MODEL_H_
#define ISTHMUS_MODEL_TRAIN_TRAINING_MODEL_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "model/model.h"
#include "model/step_observer.h"
#include "model/token_buffer.h"
#include "model/train/loss_decrease.h"
#include "model/train/non_finite.h"
#include "model/train/optimizer.h"
#include "model/train/step_figures.h"
#include "model/train/training_memory.h"
#include "parallel/gradient_reducer.h"
#include "parallel/mesh.h"
#include "proto/config.pb.h"
#include "runtime/captured_work.h"
#include "runtime/data/token_tables.h"
#include "runtime/phase_timer.h"
#include "runtime/step_phase.h"
#include "runtime/stream.h"

namespace isthmus {

struct StepResult : StepFigures {
  bool applied = false;  // weights and optimizer state have taken the step; else they are as they were
  StepSeconds seconds;
  // These are of measured steps that were applied.
  std::optional<LossDecreases> decrease;
  HeadLossValues head_losses;
};

struct StepRequest {
  // Every rank calls it before a weight changes, with the same sound figures. It returns whether to apply the step.
  using Accept = std::function<bool(const StepFigures& figures)>;

  Tensor ids, targets;  // int32 [1, n] in host memory, this data rank's tokens, the same on all its tensor ranks
  int64_t step = 0;     // from 1
  double learning_rate = 0;
  bool measure = false;  // the observer's step
  Accept accept;         // empty: every sound step is applied
  bool last = false;     // of the run
};

class TrainingModel {
 public:
  // `config` must be resolved and valid for the mesh. `observer` measures steps that ask for it; if it is null, none
  // does. `mesh`, `stream` and `observer` must outlive the model; `tables` need not.
  static absl::StatusOr<std::unique_ptr<TrainingModel>> Create(const proto::RunConfig& config, const Mesh& mesh,
                                                               Stream& stream, StepObserver* observer = nullptr,
                                                               const TokenTables& tables = {});

  // Sets the state before the first step: a function of the seed.
  absl::Status InitializeWeights(uint64_t seed);

  // Takes one optimizer step. Collective over the mesh. Every rank returns the same figures, except for the seconds. No
  // rank applies a step that is not sound (StepFigures), or that `accept` refuses. Errors: InvalidArgument if the
  // tokens are not whole micro-batches, or a measured step has no observer; those of collectives and of the observer.
  absl::StatusOr<StepResult> Step(const StepRequest& request);

  // Is called after a step that was not applied because it was not finite. Returns what this rank still has of it.
  // Local.
  absl::StatusOr<NonFiniteTensors> FindNonFinite();
  // Is called after a step whose gradient vanished. Returns the first weight and the first activation that are all
  // zero.
  absl::StatusOr<NonFiniteTensors> FindZero();
  // Is called after a step whose gradient was too large. Returns the parameter with the largest gradient.
  absl::StatusOr<NonFiniteTensors> FindLargest();

  // Runs a micro-batch of token 0 and drops its result, so that libraries prepare what steps need of them. Weights stay
  // as they are. Collective.
  absl::Status Rehearse();
  // Returns how many kinds of micro-batches are replayed from a capture.
  int captured() const;

  // Returns the mean loss over all data ranks of one batch shaped as in Step, without gradients. Collective.
  absl::StatusOr<double> Evaluate(const Tensor& ids, const Tensor& targets);
  // Does the same with the scores of this data rank's tokens (ChunkedLoss::Evaluate), one after the other, if they are
  // wanted. The loss has the same bits.
  struct Evaluation {
    double loss = 0;
    std::vector<int32_t> scores;
  };
  absl::StatusOr<Evaluation> EvaluateTokens(const Tensor& ids, const Tensor& targets, bool scores);

  ParameterStore& parameters() { return model_->parameters(); }
  const ParameterStore& parameters() const { return model_->parameters(); }
  const Optimizer& optimizer() const { return optimizer_; }
  Backbone& backbone() { return model_->backbone(); }
  ChunkedLoss& loss() { return model_->loss(); }
  // Returns the memory that is allocated.
  MemoryBytes memory() const;

 private:
  // The tokens of a micro-batch on the stream's device: int32 [1, N]; targets as in HeadBatch.
  struct MicroBatchInput {
    Tensor ids, targets;
    int64_t begin = 0;  // among this rank's tokens of the step
  };
  // The work of a micro-batch depends on this besides its tokens.
  struct MicroBatchKind {
    bool last;  // of the step: gradients are reduced
    bool measured;
    bool later_targets;  // the step has some
    double scale;        // of the loss
    friend bool operator<(const MicroBatchKind& a, const MicroBatchKind& b) {
      return std::tuple(a.last, a.measured, a.later_targets, a.scale) <
             std::tuple(b.last, b.measured, b.later_targets, b.scale);
    }
  };
  // This is a kind that has occurred.
  struct Recurring {
    std::unique_ptr<CapturedWork> work;  // from the second time on
    int phases = 0;                      // of timer_
  };

  TrainingModel(const Mesh& mesh, Stream& stream, StepObserver* observer)
      : mesh_(mesh), stream_(stream), observer_(observer) {}

  // Weights are in the order of the forward pass, gradients in that of the backward pass.
  std::vector<NamedTensor> NamedWeights() const;
  std::vector<NamedTensor> NamedGradients() const;
  // Returns whether micro-batches can be captured as configured; a note says why not.
  bool CanCapture(const proto::CudaConfig& config) const;
  // Runs forward, head and backward pass, with the part of the reduction that is done in its course.
  absl::Status MicroBatch(const MicroBatchInput& tokens, const MicroBatchKind& kind);
  // Is called in the last micro-batch: the gradients of a segment are complete on this rank.
  absl::Status SegmentReady(int segment);
  // Does the same, captured or replayed if that is wanted.
  absl::Status RunMicroBatch(const MicroBatchInput& tokens, const MicroBatchKind& kind);
  // Collective: all ranks capture or none does, from then on.
  absl::Status Capture(const MicroBatchInput& tokens, const MicroBatchKind& kind, Recurring& recurring);
  // Does the same, measured if that is wanted; its tokens are [begin, begin + MicroBatchTokens()) of the step's.
  absl::Status MeasuredMicroBatch(int64_t begin, const MicroBatchKind& kind);

  // These are the parts of a step, in their order.
  absl::Status CheckRequest(const StepRequest& request) const;
  absl::Status BeginStep(const StepRequest& request);
  absl::StatusOr<LossSums> RunMicroBatches(const StepRequest& request, double scale);
  // Finds the figures of the whole mesh, and whether to apply the step.
  absl::StatusOr<StepResult> Agree(const StepRequest& request, const LossSums& sums, double scale);
  // Updates the weights, and adds to the result what is known of a measured step's update.
  // `scale` is that of the loss.
  absl::Status Apply(const StepRequest& request, const LossSums& sums, double scale, StepResult& result);
  // Returns what was added to the loss, over all data ranks. Collective over them.
  absl::StatusOr<HeadLossValues> HeadLosses(const LossSums& sums, double scale) const;
  // Returns the factor for a gradient of this norm.
  double ClipFactor(double gradient_norm) const;
  int64_t MicroBatchTokens() const { return model_->setting().batch.tokens(); }

  const Mesh& mesh_;
  Stream& stream_;
  StepObserver* const observer_;
  double clip_norm_ = 0;
  TokenBuffer ids_, targets_;
  std::unique_ptr<PhaseTimer> timer_;
  StepSeconds seconds_;      // of the step that runs
  bool loss_finite_ = true;  // of its tokens on this rank
  std::unique_ptr<Model> model_;
  std::unique_ptr<GradientReducer> reducer_;
  Optimizer optimizer_;
  std::vector<std::shared_ptr<void>> registered_;  // arenas, with communicators
  bool capture_ = false;
  std::map<MicroBatchKind, Recurring> recurring_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_TRAINING_MODEL_H_
