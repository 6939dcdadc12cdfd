#include "tests/support/part_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/weights.h"
#include "model/model.h"
#include "model/train/dry_run.h"
#include "model/train/training_memory.h"
#include "runtime/operator_cost.h"
#include "runtime/philox.h"
#include "tests/support/head_comparison.h"
#include "tests/support/mpi_world.h"
#include "tests/support/one_rank.h"
#include "tests/support/recorded_step.h"
#include "tests/support/shared_folder.h"

namespace isthmus::testing {
namespace {

constexpr double kTolerance = 1e-10;
// Steps before a checkpoint and after it.
int64_t FewSteps() { return TestsAreFew() ? 2 : 4; }

// Meshes of {1, 2, 3} tensor × {1, 2} data ranks that the world makes. Where tests are few, it is that with most tensor
// ranks.
std::vector<TinyOptions> MeshesOf(TinyOptions options) {
  std::vector<TinyOptions> meshes;
  for (const int tensor : {1, 2, 3}) {
    options.tensor = tensor;
    options.data = World().size() / tensor;
    if (World().size() % tensor == 0 && options.data <= 2) meshes.push_back(options);
  }
  return SomeOf(meshes);
}

std::vector<double> LossesFrom(Replica& replica, int64_t first, int64_t count) {
  std::vector<double> losses;
  for (int64_t step = first; step < first + count; ++step) losses.push_back(replica.Step(step).loss);
  return losses;
}

void ExpectNear(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], kTolerance * expected[i]) << i;
}

// Trains the first batch up to the gradients, in fp64, and returns the loss that they are of. They are added to those there are.
double TrainOnce(TrainingModel& model, TokenBatch& batch) {
  const Tensor ids = PartOf(batch.ids, 0, 1), targets = model.loss().StepTargets(1, PartOf(batch.targets, 0, 1));
  EXPECT_TRUE(model.loss().BeginStep({.step = 1, .targets = targets}).ok());
  EXPECT_TRUE(model.backbone().Forward(ids).ok());
  EXPECT_TRUE(model.loss().ResetSums().ok());
  const double scale = 1.0 / static_cast<double>(ids.columns);
  EXPECT_TRUE(model.loss()
                  .Train({.hidden = model.backbone().hidden(),
                          .targets = targets,
                          .ids = ids,
                          .scale = scale,
                          .grad_hidden = model.backbone().grad_hidden()})
                  .ok());
  EXPECT_TRUE(model.backbone().Backward(ids, nullptr).ok());
  const auto sums = model.loss().Sums();
  EXPECT_TRUE(sums.ok()) << sums.status();
  double loss = sums->loss + sums->z_loss;
  for (size_t k = 0; k < model.loss().future_weights().size(); ++k) {
    loss += model.loss().future_weights()[k] * sums->future[k];
  }
  return scale * loss;
}

}  // namespace

TinyOptions PartOptions() {
  TinyOptions options;
  options.width = 24;
  options.heads = 6;
  options.vocabulary = 101;
  options.sequence_length = 9;
  return options;
}

double WorstGradientError(const TinyOptions& options) {
  Replica replica(options);
  TrainingModel& model = replica.model();
  TokenBatch batch = MakeBatch(options, 1);
  TrainOnce(model, batch);
  const ParameterStore& parameters = model.parameters();
  const auto* all = parameters.gradients().As<const double>();
  const std::vector<double> gradients(all, all + parameters.gradients().size());
  double worst = 0;
  for (int spec = 0; spec < static_cast<int>(parameters.specs().size()); ++spec) {
    const Tensor weight = parameters.Weight(spec);
    const double* gradient = gradients.data() + (parameters.Gradient(spec).As<const double>() - all);
    std::vector<double> original;
    double expected = 0, norm = 0;
    const auto direction = [&](int64_t i) {
      return Philox::Normal(5, RandomPurpose::kTest, static_cast<uint32_t>(spec), static_cast<uint64_t>(i));
    };
    for (int64_t i = 0; i < weight.size(); ++i) {
      original.push_back(ElementOf(weight, i));
      expected += gradient[i] * direction(i);
      norm += gradient[i] * gradient[i];
    }
    constexpr double kStep = 1e-5;
    double difference = 0;
    for (const double sign : {1.0, -1.0}) {
      for (int64_t i = 0; i < weight.size(); ++i) {
        SetElement(weight, i, original[static_cast<size_t>(i)] + sign * kStep * direction(i));
      }
      difference += sign * TrainOnce(model, batch) / (2 * kStep);
    }
    for (int64_t i = 0; i < weight.size(); ++i) SetElement(weight, i, original[static_cast<size_t>(i)]);
    const std::string& name = parameters.specs()[static_cast<size_t>(spec)].name;
    if (name == "head.row_scale") {  // the factors of rows are fixed
      EXPECT_EQ(norm, 0);
      continue;
    }
    EXPECT_GT(norm, 0) << name;
    worst = std::max(worst, std::abs(difference - expected) / std::sqrt(norm));
  }
  return worst;
}

void ExpectSameTrainingOnEveryMesh(const TinyOptions& options) {
  std::vector<TinyOptions> meshes;
  for (TinyOptions mesh : MeshesOf(options)) {
    for (const int bits : SomeOf(Switches(2))) {
      mesh.sequence_parallel = mesh.shard_optimizer = (bits & 1) != 0;
      mesh.recompute = (bits & 2) != 0;
      mesh.micro_batch = (bits & 2) != 0 ? 2 : 0;
      meshes.push_back(mesh);
    }
  }
  ExpectThatLossesFall(ExpectLossesOfOneRank(World(), meshes, TestSteps(), kTolerance));
}

void ExpectPlannedMemory(const TinyOptions& options) {
  for (TinyOptions mesh : MeshesOf(options)) {
    for (const bool recompute : {false, true}) {
      mesh.recompute = mesh.sequence_parallel = recompute;
      SCOPED_TRACE(mesh.Name());
      Replica meshed(mesh, &World());
      EXPECT_EQ(PlanTrainingMemory(TinyConfig(mesh), meshed.mesh().tensor_rank(), Device::kCpu).bytes(),
                meshed.model().memory());
    }
  }
}

void ExpectStatedProducts(const TinyOptions& options, double rounding) {
  const proto::RunConfig config = TinyConfig(options);
  const auto work = RecordStep(config, {});
  ASSERT_TRUE(work.ok()) << work.status();
  const std::vector<int64_t> counts = work->OperatorCounts();
  double recorded = 0, attention = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const OperatorCost& cost = work->operators[i].cost;
    const double flops = cost.flops * static_cast<double>(counts[i]);
    if (cost.kind == OperatorCost::Kind::kProduct) recorded += flops;
    if (cost.kind == OperatorCost::Kind::kAttentionForward) attention += 3 * flops;
  }
  const double stated =
      FlopsPerToken(config, /*causal=*/true) * static_cast<double>(options.sequences * options.sequence_length);
  EXPECT_GE(stated - attention, recorded * (1 - rounding));
  EXPECT_LE(stated - attention, recorded * 1.05);
}

void ExpectPlannedCalls(const TinyOptions& options) {
  for (TinyOptions mesh : MeshesOf(options)) {
    for (const bool recompute : {false, true}) {
      mesh.recompute = mesh.sequence_parallel = recompute;
      ExpectSameCalls(mesh, /*measure=*/true);
    }
  }
}

void ExpectResumeOnEveryMesh(const TinyOptions& options) {
  const SharedFolder folder;
  int number = 0;
  for (const TinyOptions& from : MeshesOf(options)) {
    Replica saved(from, &World());
    LossesFrom(saved, 1, FewSteps());
    CheckpointContents contents;
    contents.manifest.set_step(FewSteps());
    const std::string path = folder / ("checkpoints/" + std::to_string(number++));
    const auto status =
        SaveCheckpoint(path, contents, saved.model().parameters(), saved.mesh(), &saved.model().optimizer());
    ASSERT_TRUE(status.ok()) << status.status();
    const auto manifest = ReadManifest(path);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    const std::vector<double> expected = LossesFrom(saved, FewSteps() + 1, FewSteps());
    const auto go_on = [&](Replica& other) {
      const absl::Status loaded =
          LoadTrainingState(path, *manifest, other.model().parameters(), other.model().optimizer());
      EXPECT_TRUE(loaded.ok()) << loaded;
      return LossesFrom(other, FewSteps() + 1, FewSteps());
    };
    for (const TinyOptions& to : MeshesOf(options)) {
      SCOPED_TRACE("from " + from.Name() + " to " + to.Name());
      Replica meshed(to, &World(), /*seed=*/99);
      const std::vector<double> found = go_on(meshed);
      ExpectNear(found, expected);
      if (to.tensor == from.tensor) {
        EXPECT_EQ(found, expected);
      }
    }
    Replica alone(from, nullptr, /*seed=*/99);
    ExpectNear(go_on(alone), expected);
  }
}

namespace {

void ExpectSameShares(const std::optional<VisibleShares>& found, const std::optional<VisibleShares>& expected) {
  ASSERT_EQ(found.has_value(), expected.has_value());
  if (!found.has_value()) return;
  EXPECT_EQ(found->tokens, expected->tokens);
  for (const auto energies : {&VisibleShares::logits, &VisibleShares::log_probabilities}) {
    const VisibleShares::Energies &one = (*found).*energies, &other = (*expected).*energies;
    EXPECT_NEAR(one.whole, other.whole, 1e-9 * other.whole);
    EXPECT_NEAR(one.cosine(), other.cosine(), 1e-9);
    EXPECT_GT(one.cosine(), 0);
    EXPECT_LE(one.cosine(), 1 + 1e-12);
  }
}

}  // namespace

void ExpectSameFiguresOnEveryMesh(const TinyOptions& options) {
  for (TinyOptions mesh : MeshesOf(options)) {
    for (const int sequence_parallel : SomeOf(Switches(1))) {
      mesh.sequence_parallel = mesh.shard_optimizer = sequence_parallel != 0;
      mesh.jacobian_tokens = 7;
      SCOPED_TRACE(mesh.Name());
      Replica alone(mesh), meshed(mesh, &World());
      for (int64_t step = 1; step <= 2; ++step) {
        const StepWithFigures expected = alone.Step(step, /*measure_head=*/true), found = meshed.Step(step, true);
        ASSERT_TRUE(expected.head.has_value() && found.head.has_value());
        ASSERT_EQ(found.head->linear, expected.head->linear);
        EXPECT_EQ(found.head->not_measured, expected.head->not_measured);
        EXPECT_EQ(found.head->not_measured.empty(), found.head->linear);
        ExpectSameShares(found.head->visible, expected.head->visible);
        ExpectSameLayers(found.layers, expected.layers, 1e-9);
        if (!found.head->linear) continue;
        EXPECT_LT(found.head->scalars.decomposition_error(), 1e-9);
        HeadFigures figures = *found.head, wanted = *expected.head;
        // One rank has one shard.
        wanted.shards = figures.shards;
        ExpectSameFigures(figures, wanted, 1e-8);
      }
    }
  }
}

void CheckPart(const TinyOptions& options) {
  if (!TestsAreFew()) {
    EXPECT_LT(WorstGradientError(options), 1e-6) << options.Name();
  }
  ExpectSameTrainingOnEveryMesh(options);
  ExpectPlannedMemory(options);
  ExpectStatedProducts(options);
  ExpectPlannedCalls(options);
  ExpectResumeOnEveryMesh(options);
  ExpectSameFiguresOnEveryMesh(options);
}

}  // namespace isthmus::testing
