// ranks: 1 2 6
// Tests of the head of clusters: w_v = u_v + q_c(v).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/head_clusters.h"
#include "model/heads/heads.h"
#include "model/train/dry_run.h"
#include "runtime/philox.h"
#include "runtime/status.h"
#include "tests/support/mpi_world.h"
#include "tests/support/one_rank.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kOwn[] = "head.weight", kShared[] = "head.cluster.weight";

TinyOptions ClusterOptions(const std::string& kind, int64_t count) {
  TinyOptions options = PartOptions();
  options.head = "kind: 'cluster' clusters { kind: '" + kind + "' count: " + std::to_string(count) + " }";
  return options;
}

// Four clusters: one has a single token, and of three ranks only the first has tokens of three of them.
TinyOptions ClustersByHand() {
  TinyOptions options = ClusterOptions("file", 4);
  for (int32_t token = 0; token < options.vocabulary; ++token) {
    options.clusters.push_back(token == 5 ? 3 : token < 30 ? token % 2 : 2);
  }
  return options;
}

std::vector<int32_t> ClustersOf(const TinyOptions& options) {
  return options.clusters.empty() ? *MakeClusters(TinyConfig(options), options.vocabulary, {}) : options.clusters;
}

TEST(ClusterHead, WorksEverywhereWithClustersInOrder) { CheckPart(ClusterOptions("order", 7)); }
TEST(ClusterHead, WorksEverywhereWithShuffledClusters) { CheckPart(ClusterOptions("random", 7)); }
TEST(ClusterHead, WorksEverywhereWithClustersByHand) { CheckPart(ClustersByHand()); }

TEST(ClusterHead, WorksWithOneClusterAndWithOneForEachToken) {
  for (const int64_t count : {int64_t{1}, PartOptions().vocabulary}) {
    const TinyOptions options = ClusterOptions("order", count);
    // A row that all tokens share changes no probability: its gradient is rounding.
    if (count > 1) {
      EXPECT_LT(WorstGradientError(options), 1e-6) << options.Name();
    }
    ExpectSameTrainingOnEveryMesh(options);
    ExpectPlannedMemory(options);
  }
}

Matrix Copied(const Tensor& tensor) {
  Matrix copy(tensor.rows, tensor.columns);
  for (int64_t i = 0; i < tensor.size(); ++i) copy.data()[i] = ElementOf(tensor, i);
  return copy;
}
void Fill(const Tensor& tensor, const Matrix& values) {
  for (int64_t i = 0; i < tensor.size(); ++i) SetElement(tensor, i, values.data()[i]);
}
Matrix Drawn(int64_t rows, int64_t columns, uint32_t stream, double deviation) {
  Matrix drawn(rows, columns);
  for (int64_t i = 0; i < drawn.size(); ++i) {
    // bf16 has these numbers, so that all precisions begin with the same.
    drawn.data()[i] = static_cast<float>(BFloat16(
        static_cast<float>(deviation * Philox::Normal(3, RandomPurpose::kTest, stream, static_cast<uint64_t>(i)))));
  }
  return drawn;
}
double ErrorOf(const Matrix& found, const Matrix& expected) { return (found - expected).norm() / expected.norm(); }

// The rows of Q that belong to the tokens, and back: the sums of the tokens' rows.
Matrix RowsOf(const Matrix& shared, const std::vector<int32_t>& clusters) {
  Matrix rows(static_cast<Eigen::Index>(clusters.size()), shared.cols());
  for (size_t token = 0; token < clusters.size(); ++token) {
    rows.row(static_cast<Eigen::Index>(token)) = shared.row(clusters[token]);
  }
  return rows;
}
Matrix SumsOf(const Matrix& rows, const std::vector<int32_t>& clusters, Eigen::Index count) {
  Matrix sums = Matrix::Zero(count, rows.cols());
  for (size_t token = 0; token < clusters.size(); ++token) {
    sums.row(clusters[token]) += rows.row(static_cast<Eigen::Index>(token));
  }
  return sums;
}

// One micro-batch of the head alone, on one rank.
struct ClusterPass {
  double loss = 0;
  Matrix own, shared, hidden;  // gradients; of a full head there is no `shared`
  Matrix weight;               // as the decomposition sees it
};
ClusterPass RunHead(const TinyOptions& options, const Matrix& hidden, const Matrix& own, const Matrix* shared) {
  Replica replica(options);
  TrainingModel& model = replica.model();
  ParameterStore& parameters = model.parameters();
  Fill(parameters.Weight(kOwn), own);
  if (shared != nullptr) Fill(parameters.Weight(kShared), *shared);
  const Tensor input = model.backbone().hidden(), grad_hidden = model.backbone().grad_hidden();
  Fill(input, hidden);
  TokenBatch batch = MakeBatch(options, 1);
  const Tensor targets = PartOf(batch.targets, 0, 1);
  EXPECT_TRUE(model.loss().BeginStep({.step = 1, .targets = targets}).ok());
  EXPECT_TRUE(model.loss().ResetSums().ok());
  const double scale = 1.0 / static_cast<double>(hidden.rows());
  EXPECT_TRUE(
      model.loss().Train({.hidden = input, .targets = targets, .scale = scale, .grad_hidden = grad_hidden}).ok());
  ClusterPass pass{.loss = model.loss().Sums()->loss * scale,
                   .own = Copied(parameters.Gradient(kOwn)),
                   .hidden = Copied(grad_hidden)};
  if (shared != nullptr) pass.shared = Copied(parameters.Gradient(kShared));
  const auto view = model.loss().View();
  EXPECT_TRUE(view.ok()) << view.status();
  pass.weight = Copied(view->weight);
  return pass;
}

struct HeadInputs {
  explicit HeadInputs(const TinyOptions& options)
      : clusters(ClustersOf(options)),
        hidden(Drawn(options.sequences * options.sequence_length, options.width, 1, 1)),
        own(Drawn(options.vocabulary, options.width, 2, 0.1)),
        shared(Drawn(TinyConfig(options).model().head().clusters().count(), options.width, 3, 0.1)) {}
  Matrix Folded() const { return own + RowsOf(shared, clusters); }

  std::vector<int32_t> clusters;
  Matrix hidden, own, shared;
};

std::vector<TinyOptions> ClusterHeads() {
  return {ClusterOptions("order", 7), ClusterOptions("random", 7), ClustersByHand(), ClusterOptions("order", 1),
          ClusterOptions("order", PartOptions().vocabulary)};
}

TEST(ClusterHead, IsAFullHeadOfItsFoldedWeight) {
  for (const TinyOptions& options : ClusterHeads()) {
    SCOPED_TRACE(options.Name());
    const HeadInputs in(options);
    const ClusterPass found = RunHead(options, in.hidden, in.own, &in.shared);
    const ClusterPass full = RunHead(PartOptions(), in.hidden, in.Folded(), nullptr);
    constexpr double kRounding = 1e-12;
    EXPECT_NEAR(found.loss, full.loss, kRounding * full.loss);
    EXPECT_LT(ErrorOf(found.hidden, full.hidden), kRounding);
    EXPECT_LT(ErrorOf(found.own, full.own), kRounding);
    const Matrix sums = SumsOf(full.own, in.clusters, in.shared.rows());
    EXPECT_LT((found.shared - sums).norm(), kRounding * full.own.norm());
    if (in.shared.rows() == 1) {
      EXPECT_LT(sums.norm(), kRounding * full.own.norm());
    }
    EXPECT_LT(ErrorOf(found.weight, in.Folded()), kRounding);
    // Another table would be noticed.
    std::vector<int32_t> other = in.clusters;
    std::swap(other.front(), other.back());
    if (in.shared.rows() > 1) {
      EXPECT_GT(ErrorOf(found.shared, SumsOf(full.own, other, in.shared.rows())), 1e-3);
    }
  }
}

TEST(ClusterHead, NarrowTypesAgreeWithFp64) {
  for (const TinyOptions& exact : ClusterHeads()) {
    const HeadInputs in(exact);
    if (in.shared.rows() == 1) continue;  // its gradient is rounding
    const ClusterPass expected = RunHead(exact, in.hidden, in.own, &in.shared);
    for (const auto& [precision, tolerance] :
         {std::pair(proto::PrecisionConfig::FP32, 1e-5), std::pair(proto::PrecisionConfig::BF16, 2e-2)}) {
      TinyOptions narrow = exact;
      narrow.precision = precision;
      SCOPED_TRACE(narrow.Name());
      const ClusterPass found = RunHead(narrow, in.hidden, in.own, &in.shared);
      EXPECT_NEAR(found.loss, expected.loss, tolerance * expected.loss);
      for (const auto member : {&ClusterPass::own, &ClusterPass::shared, &ClusterPass::hidden, &ClusterPass::weight}) {
        const Matrix &a = found.*member, &b = expected.*member;
        EXPECT_LT(ErrorOf(a, b), tolerance);
        EXPECT_GT((a.array() * b.array()).sum() / (a.norm() * b.norm()), 0.999);
      }
    }
  }
}

// Rounded gradients of many rows would lose the sum's digits.
TEST(ClusterHead, SumsOfBf16ByClusterAreFp32) {
  TinyOptions options = ClusterOptions("order", 2);
  options.precision = proto::PrecisionConfig::BF16;
  const HeadInputs in(options);
  const ClusterPass pass = RunHead(options, in.hidden, in.own, &in.shared);
  EXPECT_LT(ErrorOf(pass.shared, SumsOf(pass.own, in.clusters, 2)), 1e-6);
}

std::vector<double> TrainedLosses(const TinyOptions& options) {
  Replica replica(options);
  std::vector<double> losses;
  for (int64_t step = 1; step <= TestSteps(); ++step) losses.push_back(replica.Step(step, step % 3 == 0).loss);
  return losses;
}

TEST(ClusterHead, WithoutItsClustersItHasTheFullHeadsBits) {
  for (const auto precision :
       {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
    for (const int64_t micro_batch : {0, 2}) {
      TinyOptions full = PartOptions(), frozen = ClusterOptions("random", 7);
      full.optimizer = "clip_norm: 0";
      frozen.optimizer = "clip_norm: 0 groups { name: 'q' parameters: 'head.cluster.*' learning_rate_factor: 0 }";
      full.precision = frozen.precision = precision;
      full.micro_batch = frozen.micro_batch = micro_batch;
      SCOPED_TRACE(frozen.Name());
      const std::vector<double> expected = TrainedLosses(full);
      EXPECT_EQ(TrainedLosses(frozen), expected);
      frozen.optimizer = "clip_norm: 0";
      EXPECT_NE(TrainedLosses(frozen), expected);
    }
  }
}

// Each of a step's four micro-batches embeds its tokens, and the head folds its weight once.
TEST(ClusterHead, FoldsItsWeightOnceInAStep) {
  for (const int64_t micro_batch : {8, 2}) {
    TinyOptions options = ClusterOptions("order", 7);
    options.micro_batch = micro_batch;
    const auto work = RecordStep(TinyConfig(options), {});
    ASSERT_TRUE(work.ok()) << work.status();
    const std::vector<int64_t> counts = work->OperatorCounts();
    int64_t look_ups = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      if (std::string_view(work->operators[i].cost.name) == "row look-up") look_ups += counts[i];
    }
    EXPECT_EQ(look_ups, options.sequences / micro_batch + 1);
  }
}

// The head, and one part of it wrong.
class FaultyClusterHead : public LmHead {
 public:
  enum class Fault { kOwnGradient, kSharedGradient, kStaleWeight };

  FaultyClusterHead(std::unique_ptr<LmHead> head, Fault fault) : head_(std::move(head)), fault_(fault) {}

  void Declare(ParameterHandle embedding, ParameterBuilder& parameters) override {
    head_->Declare(embedding, parameters);
  }
  void Place(int64_t chunk, TensorPlacer& placer) override { head_->Place(chunk, placer); }
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override {
    head_->Bind(parameters, region, stream);
    parameters_ = &parameters;
  }
  absl::Status BeginStep(const HeadStep& step) override { return head_->BeginStep(step); }
  absl::Status Begin(const Tensor& hidden) override { return head_->Begin(hidden); }
  absl::Status BeginReading(const Tensor& hidden) override {
    return fault_ == Fault::kStaleWeight ? head_->Begin(hidden) : head_->BeginReading(hidden);
  }
  absl::Status Logits(const Tensor& hidden, int64_t begin, const Tensor& logits) override {
    return head_->Logits(hidden, begin, logits);
  }
  absl::Status Backward(const Tensor& hidden, int64_t begin, const Tensor& grad_logits, const Tensor& grad_hidden,
                        const Tensor& signal) override {
    return head_->Backward(hidden, begin, grad_logits, grad_hidden, signal);
  }
  absl::Status Finish(const Tensor& hidden, const Tensor& grad_hidden) override {
    ISTHMUS_RETURN_IF_ERROR(head_->Finish(hidden, grad_hidden));
    if (fault_ == Fault::kStaleWeight) return absl::OkStatus();
    const Tensor gradient = parameters_->Gradient(fault_ == Fault::kOwnGradient ? kOwn : kShared);
    for (int64_t i = 0; i < gradient.size(); ++i) SetElement(gradient, i, 1.01 * ElementOf(gradient, i));
    return absl::OkStatus();
  }
  absl::StatusOr<HeadView> View() override { return head_->View(); }
  ParameterHandle parameter() const override { return head_->parameter(); }
  double ForwardFlopsPerToken() const override { return head_->ForwardFlopsPerToken(); }

 private:
  std::unique_ptr<LmHead> head_;
  const Fault fault_;
  const ParameterStore* parameters_ = nullptr;
};

// Registers the head with the fault, and returns the options of a model that has it.
TinyOptions RegisterFault(FaultyClusterHead::Fault fault) {
  RegisterHead({.name = "wrong-clusters",
                .make = [fault](const HeadRequest& request) -> std::unique_ptr<LmHead> {
                  return std::make_unique<FaultyClusterHead>(FindHead("cluster")->make(request), fault);
                },
                .has_clusters = true});
  TinyOptions options = PartOptions();
  options.head = "kind: 'wrong-clusters' clusters { kind: 'random' count: 7 }";
  return options;
}

TEST(ClusterHead, AWrongGradientIsNoticed) {
  using Fault = FaultyClusterHead::Fault;
  for (const Fault fault : {Fault::kOwnGradient, Fault::kSharedGradient}) {
    EXPECT_GT(WorstGradientError(RegisterFault(fault)), 1e-3) << static_cast<int>(fault);
  }
}

// Trains with evaluations between steps. Returns the last one's loss, and what training then finds of the same batch.
std::pair<double, double> LastEvaluation(const TinyOptions& options) {
  Replica evaluated(options), trained(options);
  TokenBatch batch = MakeBatch(options, 1);
  double loss = 0;
  for (int64_t step = 1; step <= 4; ++step) {
    // Evaluations leave training as it is.
    EXPECT_EQ(evaluated.Step(step).loss, trained.Step(step).loss);
    loss = *evaluated.model().Evaluate(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1));
  }
  return {loss, trained.Step(5).loss};
}

TEST(ClusterHead, EvaluationSeesTheWeightsOfTheMoment) {
  const auto [loss, expected] = LastEvaluation(ClusterOptions("random", 7));
  EXPECT_NEAR(loss, expected, 1e-12 * expected);
  const auto [stale, of_moment] = LastEvaluation(RegisterFault(FaultyClusterHead::Fault::kStaleWeight));
  EXPECT_EQ(of_moment, expected);
  EXPECT_GT(std::abs(stale - of_moment), 1e-3 * of_moment);
}

// The backward pass uses the folded weight.
TEST(ClusterHead, HooksOnTheBackwardPassSeeTheFoldedWeight) {
  TinyOptions options = ClustersByHand();
  const HeadInputs in(options);
  const ClusterPass plain = RunHead(options, in.hidden, in.own, &in.shared);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(in.Folded(), Eigen::ComputeThinV), of_own(in.own, Eigen::ComputeThinV);
  options.head += " backward { kind: 'rank' rank: 5 }";
  const ClusterPass hooked = RunHead(options, in.hidden, in.own, &in.shared);
  const auto expected = [&](const auto& of) -> Matrix {
    return plain.hidden * of.matrixV().leftCols(5) * of.matrixV().leftCols(5).transpose();
  };
  EXPECT_LT(ErrorOf(hooked.hidden, expected(svd)), 1e-10);
  EXPECT_GT(ErrorOf(hooked.hidden, expected(of_own)), 1e-2);
  EXPECT_EQ(hooked.own, plain.own);
  EXPECT_EQ(hooked.shared, plain.shared);
}

TEST(ClusterHead, HooksOnTheBackwardPassWorkOnEveryMesh) {
  std::vector<TinyOptions> meshes;
  for (const char* hook : {"backward { kind: 'preconditioned' damping: 0.1 }", "backward { kind: 'random' }",
                           "backward { kind: 'dense_feedback' match_norm: true }"}) {
    TinyOptions options = ClusterOptions("random", 7);
    options.head += hook;
    ExpectPlannedMemory(options);
    ExpectPlannedCalls(options);
    for (const int tensor : {1, 2, 3}) {
      if (World().size() % tensor != 0 || World().size() / tensor > 2) continue;
      options.tensor = tensor;
      options.data = World().size() / tensor;
      options.sequence_parallel = options.shard_optimizer = tensor > 1;
      meshes.push_back(options);
    }
  }
  ExpectLossesOfOneRank(World(), meshes, 4, 1e-10);
}

TEST(ClusterHead, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& more, const std::function<void(proto::ModelConfig&)>& change = nullptr) {
    TinyOptions options = ClusterOptions("order", 7);
    options.head += more;
    proto::ModelConfig model = TinyConfig(options).model();
    if (change) change(model);
    return std::string(CheckHead(model, "here").message());
  };
  EXPECT_EQ(refusal(""), "");
  EXPECT_EQ(refusal("rank: 8"), "here: model.head.rank: 8; a head of kind cluster accepts 0");
  EXPECT_EQ(refusal("", [](proto::ModelConfig& model) { model.set_tied_embeddings(true); }),
            "here: model.tied_embeddings: true; a head of kind cluster accepts false");
  for (const std::string part : {"visible", "lost"}) {
    EXPECT_THAT(refusal("weight_gradient { kind: '" + part + "' }"),
                HasSubstr("model.head.weight_gradient.kind: " + part + "; a head of kind cluster accepts full"));
  }
}

TEST(ClusterHead, ClustersOfAnotherModelAreRefused) {
  const auto refusal = [](const std::vector<int32_t>& clusters) {
    const TinyOptions options = ClusterOptions("file", 4);
    Stream stream;
    const auto self = MakeSelfCommunicator();
    const auto mesh = Mesh::Create(*self, 1, 1, stream);
    const auto model = TrainingModel::Create(TinyConfig(options), *mesh, stream, nullptr, {.clusters = clusters});
    return std::string(model.status().message());
  };
  std::vector<int32_t> clusters(101, 3);
  EXPECT_EQ(refusal(clusters), "");
  clusters[7] = 4;
  EXPECT_EQ(refusal(clusters), "token 7 is of cluster 4; accepts 0 to model.head.clusters.count - 1 (3)");
  clusters[7] = -1;
  EXPECT_THAT(refusal(clusters), HasSubstr("token 7 is of cluster -1; accepts 0"));
  clusters.resize(100);
  EXPECT_EQ(refusal(clusters), "clusters of 100 tokens; the model needs those of model.vocabulary (101)");
  EXPECT_THAT(refusal({}), HasSubstr("clusters of 0 tokens"));
}

}  // namespace
}  // namespace isthmus::testing
