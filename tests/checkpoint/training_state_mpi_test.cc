// ranks: 4
// Everything that training continues from is written at 4x1 and read at other meshes: the same bits, and the same run.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/background_save.h"
#include "checkpoint/manifest.h"
#include "checkpoint/model_tensors.h"
#include "checkpoint/staging.h"
#include "checkpoint/tensor_reader.h"
#include "checkpoint/verify.h"
#include "checkpoint/weights.h"
#include "tests/support/mpi_world.h"
#include "tests/support/shared_folder.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// With fewer ranks, as sanitizers get, there is no mesh of four.
class TrainingState : public ::testing::Test {
 protected:
  void SetUp() override {
    if (World().size() != 4) GTEST_SKIP() << "needs four ranks";
  }
};

// Makes a group of the first `ranks` of the world.
std::unique_ptr<Communicator> FirstRanks(int ranks) {
  auto group = World().Split(World().rank() < ranks ? 0 : 1, World().rank(), "world");
  EXPECT_TRUE(group.ok()) << group.status();
  return *std::move(group);
}

TinyOptions OptionsFor(int tensor, int data, proto::PrecisionConfig::Kind precision, bool shard_optimizer) {
  // Three tensor ranks need heads, features and rows that three divides; 509 rows of the vocabulary it does not.
  TinyOptions options;
  options.tensor = tensor;
  options.data = data;
  options.precision = precision;
  options.shard_optimizer = shard_optimizer;
  options.heads = 12;
  options.width = 48;
  return options;
}

absl::Status SaveReplica(Replica& replica, const std::string& folder) {
  CheckpointContents contents;
  contents.manifest.set_step(2);
  return SaveCheckpoint(folder, contents, replica.model().parameters(), replica.mesh(), &replica.model().optimizer())
      .status();
}

// Checks that every part of the rank has the bits that are stored, read as whole tensors by one reader.
void ExpectStoredBits(Replica& replica, const std::string& folder, const proto::CheckpointManifest& manifest) {
  TensorReader reader(folder, manifest);
  for (const TensorPart& part : PartsToLoad(replica.model().parameters(), &replica.model().optimizer())) {
    for (const auto& tensor : manifest.tensors()) {
      if (tensor.name() != part.spec->name || tensor.role() != part.role) continue;
      ASSERT_EQ(tensor.dtype(), Name(part.memory.dtype));
      std::vector<char> whole(static_cast<size_t>(tensor.rows() * tensor.columns() * SizeOf(part.memory.dtype)));
      const Tensor all(whole.data(), part.memory.dtype, tensor.rows(), tensor.columns());
      ASSERT_TRUE(reader.Read(tensor, {0, tensor.rows()}, {0, tensor.columns()}, all).ok());
      for (int64_t row = 0; row < part.memory.rows; ++row) {
        const Tensor expected =
            all.RowSlice(part.rows.begin + row, 1).ColumnSlice(part.columns.begin, part.columns.size());
        ASSERT_EQ(std::memcmp(expected.data, part.memory.RowSlice(row, 1).data, static_cast<size_t>(expected.bytes())),
                  0)
            << TensorTitle(tensor.name(), tensor.role()) << " row " << row;
      }
    }
  }
}

double NextLossInFp32(int tensor, int data, Communicator* world, const std::string& folder,
                      const proto::CheckpointManifest& manifest) {
  Replica replica(OptionsFor(tensor, data, proto::PrecisionConfig::FP32, false), world, 99);
  EXPECT_TRUE(LoadWeights(folder, manifest, replica.model().parameters()).ok());
  return replica.Step(3).loss;
}

TEST_F(TrainingState, SavedAtFourTensorRanksIsLoadedBitForBitByAnyMesh) {
  const SharedFolder folder;
  int number = 0;
  for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
    Replica saved(OptionsFor(4, 1, precision, false), &World());
    for (int64_t step = 1; step <= 2; ++step) saved.Step(step);
    const std::string path = folder / ("checkpoints/" + std::to_string(number++));
    const absl::Status status = SaveReplica(saved, path);
    ASSERT_TRUE(status.ok()) << status;
    if (World().rank() == 0) {
      EXPECT_THAT(VerifyCheckpoint(path).problems, IsEmpty());
    }
    const auto manifest = ReadManifest(path);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_TRUE(manifest->finite());
    ExpectStoredBits(saved, path, *manifest);
    const double next = saved.Step(3).loss;
    // The same weights are compared in fp32 arithmetic, because bf16's rounding differs from mesh to mesh.
    const double exact = NextLossInFp32(4, 1, &World(), path, *manifest);

    struct Layout {
      int tensor, data;
      bool shard_optimizer;
    };
    for (const Layout& layout : {Layout{1, 1, false}, Layout{2, 2, false}, Layout{2, 2, true}, Layout{1, 4, true},
                                 Layout{1, 4, false}, Layout{3, 1, false}, Layout{4, 1, false}}) {
      SCOPED_TRACE(::testing::Message() << layout.tensor << "x" << layout.data << (layout.shard_optimizer ? "s" : ""));
      const int ranks = layout.tensor * layout.data;
      const std::unique_ptr<Communicator> group = FirstRanks(ranks);
      if (World().rank() >= ranks) continue;
      // The initial weights differ, so that anything not loaded would show.
      Replica loaded(OptionsFor(layout.tensor, layout.data, precision, layout.shard_optimizer), group.get(), 99);
      const absl::Status load =
          LoadTrainingState(path, *manifest, loaded.model().parameters(), loaded.model().optimizer());
      ASSERT_TRUE(load.ok()) << load;
      ExpectStoredBits(loaded, path, *manifest);
      EXPECT_NEAR(NextLossInFp32(layout.tensor, layout.data, group.get(), path, *manifest) / exact, 1, 1e-6);
      const double loss = loaded.Step(3).loss;
      EXPECT_NEAR(loss / next, 1, precision == proto::PrecisionConfig::BF16 ? 2e-3 : 1e-6);
      if (layout.tensor == 4) {
        EXPECT_EQ(loss, next);
      }
    }
    ASSERT_TRUE(World().Barrier().ok());
  }
}

// The state is sharded over data ranks and written by them, down to pieces that begin and end within rows.
TEST_F(TrainingState, AShardedOptimizersStateIsLoadedByMeshesWithoutOne) {
  const SharedFolder folder;
  for (const int tensor : {1, 2}) {
    Replica saved(OptionsFor(tensor, 4 / tensor, proto::PrecisionConfig::BF16, true), &World());
    for (int64_t step = 1; step <= 2; ++step) saved.Step(step);
    const std::string path = folder / ("checkpoints/" + std::to_string(tensor));
    ASSERT_TRUE(SaveReplica(saved, path).ok());
    const auto manifest = ReadManifest(path);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    ExpectStoredBits(saved, path, *manifest);
    // Every rank has something to write, and all write about as much.
    EXPECT_EQ(manifest->files_size(), 4);
    const double next = saved.Step(3).loss;
    const std::unique_ptr<Communicator> group = FirstRanks(1);
    if (World().rank() == 0) {
      Replica alone(OptionsFor(1, 1, proto::PrecisionConfig::BF16, false), group.get(), 99);
      ASSERT_TRUE(LoadTrainingState(path, *manifest, alone.model().parameters(), alone.model().optimizer()).ok());
      ExpectStoredBits(alone, path, *manifest);
      EXPECT_NEAR(alone.Step(3).loss / next, 1, 2e-3);
    }
    ASSERT_TRUE(World().Barrier().ok());
  }
}

// Parameters keep different tensors: one moment, two, or three.
TEST_F(TrainingState, EveryOptimizersStateIsLoadedByAnyMesh) {
  const SharedFolder folder;
  const auto options = [](int tensor, int data, bool sharded, const char* kind) {
    TinyOptions made = OptionsFor(tensor, data, proto::PrecisionConfig::FP64, sharded);
    made.optimizer =
        absl::StrCat("kind: '", kind, "' groups { name: 'table' parameters: 'embedding.*' kind: 'amsgrad' }",
                     "groups { name: 'rest' parameters: ['*norm*', 'head.*'] kind: 'adamw' }");
    return made;
  };
  for (const char* kind : {"sgd", "muon"}) {
    Replica saved(options(2, 2, true, kind), &World());
    for (int64_t step = 1; step <= 2; ++step) saved.Step(step);
    const std::string path = folder / absl::StrCat("checkpoints/", kind);
    ASSERT_TRUE(SaveReplica(saved, path).ok());
    const auto manifest = ReadManifest(path);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    const double third = saved.Step(3).loss, fourth = saved.Step(4).loss;
    for (const int tensor : {1, 4}) {
      Replica loaded(options(tensor, 4 / tensor, false, kind), &World(), 99);
      const absl::Status load =
          LoadTrainingState(path, *manifest, loaded.model().parameters(), loaded.model().optimizer());
      ASSERT_TRUE(load.ok()) << load;
      ExpectStoredBits(loaded, path, *manifest);
      EXPECT_NEAR(loaded.Step(3).loss, third, 1e-10);
      EXPECT_NEAR(loaded.Step(4).loss, fourth, 1e-10);
    }
    // Another optimizer's state is not this one's.
    Replica other(options(4, 1, false, "amsgrad"), &World());
    const absl::Status refused =
        LoadTrainingState(path, *manifest, other.model().parameters(), other.model().optimizer());
    EXPECT_THAT(std::string(refused.message()), HasSubstr("missing tensors: layers.0.attention.q_proj.weight"));
  }
}

TEST_F(TrainingState, ThePrecisionAndTheStateMustBeThere) {
  const SharedFolder folder;
  Replica fp32(OptionsFor(1, 4, proto::PrecisionConfig::FP32, true), &World());
  Replica bf16(OptionsFor(1, 4, proto::PrecisionConfig::BF16, true), &World());
  ASSERT_TRUE(SaveReplica(fp32, folder / "checkpoints/fp32").ok());
  ASSERT_TRUE(SaveReplica(bf16, folder / "checkpoints/bf16").ok());
  ASSERT_TRUE(SaveCheckpoint(folder / "checkpoints/weights", {}, fp32.model().parameters(), fp32.mesh()).ok());
  const auto load = [&](const std::string& name, Replica& replica) {
    const auto manifest = ReadManifest(folder / ("checkpoints/" + name));
    EXPECT_TRUE(manifest.ok());
    return std::string(LoadTrainingState(folder / ("checkpoints/" + name), *manifest, replica.model().parameters(),
                                         replica.model().optimizer())
                           .message());
  };
  EXPECT_EQ(load("fp32", fp32), "");
  EXPECT_THAT(load("fp32", bf16), HasSubstr("missing tensors: embedding.weight (master)"));
  EXPECT_THAT(load("bf16", fp32), HasSubstr("unexpected: embedding.weight (master)"));
  EXPECT_THAT(load("weights", fp32), HasSubstr("holds weights alone"));
}

TEST_F(TrainingState, ValuesThatAreNotFiniteAreSeenOnWhicheverRankTheyAre) {
  const SharedFolder folder;
  Replica replica(OptionsFor(1, 4, proto::PrecisionConfig::FP32, true), &World());
  const auto save = [&](const std::string& name) {
    const auto saved = SaveCheckpoint(folder / ("checkpoints/" + name), {}, replica.model().parameters(),
                                      replica.mesh(), &replica.model().optimizer());
    EXPECT_TRUE(saved.ok()) << saved.status();
    return saved->finite;
  };
  EXPECT_TRUE(save("good"));
  if (World().rank() == 2) SetElement(replica.model().optimizer().State().back().tensors.back().second, 0, NAN);
  EXPECT_FALSE(save("bad"));
}

// Staging takes the memory that `isthmus plan` states, and that is not much more than what is staged.
TEST_F(TrainingState, StagesInMemoryThatWasPlanned) {
  for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
    for (const int tensor : {1, 2, 4}) {
      for (const bool sharded : {false, true}) {
        const TinyOptions options = OptionsFor(tensor, 4 / tensor, precision, sharded);
        SCOPED_TRACE(options.Name());
        Replica replica(options, &World());
        BackgroundSave background(replica.mesh());
        ASSERT_TRUE(background.Reserve(replica.model().parameters(), replica.model().optimizer()).ok());
        proto::RunConfig config = TinyConfig(options);
        config.mutable_checkpoint()->set_interval(1);
        const int64_t planned = PlanStagingBytes(config);
        int64_t staged = 0;
        for (const auto& part :
             PartsToSave(replica.model().parameters(), &replica.model().optimizer(), replica.mesh())) {
          staged += part.memory.bytes();
        }
        EXPECT_LE(staged, background.staging_bytes());
        EXPECT_LE(background.staging_bytes(), planned);
        double figures[] = {static_cast<double>(staged), static_cast<double>(background.staging_bytes())};
        ASSERT_TRUE(World().AllReduceNumbers(absl::MakeSpan(figures), Reduction::kMax).ok());
        EXPECT_GT(figures[0], 0.9 * figures[1]);
        EXPECT_EQ(static_cast<int64_t>(figures[1]), planned);
      }
    }
  }
}

TEST_F(TrainingState, IsWrittenInTheBackgroundAsItWasWhenTheSaveBegan) {
  const SharedFolder folder;
  Replica replica(OptionsFor(2, 2, proto::PrecisionConfig::BF16, true), &World());
  replica.Step(1);
  const std::string expected = folder / "checkpoints/1", found = folder / "checkpoints/2";
  ASSERT_TRUE(SaveReplica(replica, expected).ok());
  BackgroundSave background(replica.mesh());
  int called = 0;
  const auto start = [&] {
    return background.Start(found, {}, replica.model().parameters(), replica.model().optimizer(), [&] { ++called; });
  };
  ASSERT_TRUE(start().ok());
  EXPECT_TRUE(background.pending());
  replica.Step(2);
  bool complete = false;
  for (int64_t step = 3; !complete; ++step) {
    const auto outcome = background.Poll(step > 50);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    complete = outcome->has_value();
    if (complete) {
      EXPECT_TRUE((*outcome)->finite);
    }
    replica.Step(step);
  }
  EXPECT_FALSE(background.pending());
  EXPECT_EQ(called, World().rank() == 0 ? 1 : 0);
  const std::string name = "/rank-000" + std::to_string(World().rank()) + ".tensors";
  EXPECT_TRUE(ReadText(expected + name) == ReadText(found + name));
  // The name is taken: all ranks get the same error, nothing is pending, and the checkpoint is as it was.
  ASSERT_TRUE(start().ok());
  EXPECT_FALSE(background.Poll(true).ok());
  EXPECT_FALSE(background.pending());
  if (World().rank() == 0) {
    EXPECT_FALSE(std::filesystem::exists(found + ".tmp"));
    EXPECT_THAT(VerifyCheckpoint(found).problems, IsEmpty());
  }
}

}  // namespace
}  // namespace isthmus::testing
