// Small models and batches for tests of the model at any mesh.
#ifndef ISTHMUS_TESTS_SUPPORT_TINY_MODEL_H_
#define ISTHMUS_TESTS_SUPPORT_TINY_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/measure/head_decomposition.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "proto/config.pb.h"

namespace isthmus::testing {

// The options of a tiny model and its mesh that a test varies.
struct TinyOptions {
  int tensor = 1;
  int data = 1;
  bool sequence_parallel = false;
  bool shard_optimizer = false;
  bool recompute = false;
  int64_t micro_batch = 0;  // sequences per rank and pass; 0: all
  bool tied = false;
  std::string family = "llama", head_kind;  // head_kind: of a head that neither `tied` nor `head_rank` names
  bool fp8 = false;
  int64_t width = 16, heads = 4, head_dim = 4, feed_forward = 24;
  int64_t head_rank = 0;
  int64_t vocabulary = 509;
  proto::PrecisionConfig::Kind precision = proto::PrecisionConfig::FP64;
  int64_t sequences = 8;
  int64_t sequence_length = 8;
  int64_t loss_chunk = 10;
  int64_t sample_tokens = 256, jacobian_tokens = 0;
  bool measured = true;  // whether the head is measured at any step
  bool cuda_graph = false;
  std::string optimizer;          // text of more settings of the optimizer
  std::string head;               // and of the head
  std::vector<int32_t> clusters;  // of the tokens; empty: those that the head's settings make, if it has clusters

  std::string Name() const;
};

// Resolved configuration: L 2, H 4, K 4.
proto::RunConfig TinyConfig(const TinyOptions& options);

// Holds the tokens of one step over all data ranks, a function of the step alone. `targets` are the next tokens.
struct TokenBatch {
  std::vector<int32_t> ids, targets;
};
TokenBatch MakeBatch(const TinyOptions& options, int64_t step);

// Returns part `index` of `parts` of a batch's rows, as tensors that view it.
Tensor PartOf(std::vector<int32_t>& tokens, int index, int parts);

// Returns how often each token occurs in the model's training data, a function of the vocabulary alone.
std::vector<uint64_t> TinyCounts(const TinyOptions& options);

// A step, and its measurements.
struct StepWithFigures : StepResult {
  std::optional<HeadFigures> head;
  std::vector<LayerFigures> layers;  // with `head`
};
// `measured` says whether `decomposition` observed the step, if it was applied.
StepWithFigures WithFigures(const StepResult& result, bool measured, const HeadDecomposition* decomposition);

// A training model and its mesh. Without a world it is one rank alone.
class Replica {
 public:
  explicit Replica(const TinyOptions& options, Communicator* world = nullptr, uint64_t seed = 7,
                   const Stream& stream = Stream());

  // Takes this rank's part of the batch of `step` (from 1).
  StepWithFigures Step(int64_t step, bool measure_head = false, bool last = false);

  const TinyOptions& options() const { return options_; }
  const Mesh& mesh() const { return *mesh_; }
  TrainingModel& model() { return *model_; }
  HeadDecomposition& decomposition() { return *decomposition_; }

 private:
  TinyOptions options_;
  Stream stream_;
  std::unique_ptr<Communicator> self_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<HeadDecomposition> decomposition_;
  std::unique_ptr<TrainingModel> model_;
};

// The number of steps that tests train: 20, or the value of ISTHMUS_TEST_STEPS, where kernels or sanitizers are slow.
int64_t TestSteps();
// Whether fewer steps than usual are trained. Tests then leave out more of the same.
inline bool TestsAreFew() { return TestSteps() < 20; }
// Returns all of them, or the last where tests are few.
template <typename T>
std::vector<T> SomeOf(std::vector<T> all) {
  if (TestsAreFew() && all.size() > 1) all.erase(all.begin(), all.end() - 1);
  return all;
}

// The ways in which `options` options can be on or off, as bits: all of them. With `in_pairs`, any two of three or more
// options still meet in each of their four ways; that is the default where steps are few.
std::vector<int> Switches(int options, bool in_pairs = TestsAreFew());

// How far the loss of `step` (from 1) of 8-bit training may lie from that of another device, as a share of it. Devices
// add 8-bit products differently, and the effect on a run grows (Fp8Layers.LossesMoveSoFarAfterASmallChange).
inline double EightBitTolerance(int64_t step) { return step <= 12 ? 2e-2 : 8e-2; }

// Element `i` of a tensor (flat, contiguous) as fp64.
double ElementOf(const Tensor& tensor, int64_t i);
void SetElement(const Tensor& tensor, int64_t i, double value);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_TINY_MODEL_H_
