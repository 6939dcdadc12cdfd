// Weights are written by one mesh and read by others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/weights.h"
#include "tests/support/mpi_world.h"
#include "tests/support/shared_folder.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

ParameterStore StoreOf(const TinyOptions& options, const Mesh& mesh, DType type) {
  const ModelRank rank = {mesh.tensor_rank(), mesh.tensor_ranks(), mesh.data_ranks()};
  return *ParameterStore::Create(ParametersOf(TinyConfig(options), rank), type, Stream());
}

// Expects that every element has the initial value that is a function of its place in the whole tensor.
void ExpectInitialValues(const ParameterStore& store, const ParameterStore& expected) {
  for (size_t i = 0; i < store.specs().size(); ++i) {
    const Tensor a = store.Weight(static_cast<int>(i)), b = expected.Weight(static_cast<int>(i));
    for (int64_t k = 0; k < a.size(); ++k) {
      ASSERT_EQ(ElementOf(a, k), ElementOf(b, k)) << store.specs()[i].name << " element " << k;
    }
  }
}

TEST(Weights, SavedAtAnyMeshAndLoadedAtAnyOtherAreTheSameBits) {
  const SharedFolder folder;
  const int world = World().size();
  int number = 0;
  for (const bool tied : {false, true}) {
    for (const int64_t head_rank : {0, 5}) {
      if (tied && head_rank != 0) continue;
      const TinyOptions options = {.tied = tied, .head_rank = head_rank};
      for (int tensor = 1; tensor <= world; ++tensor) {
        // The tiny model has four heads.
        if (world % tensor != 0 || 4 % tensor != 0) continue;
        const Mesh mesh = *Mesh::Create(World(), tensor, world / tensor);
        ParameterStore saved = StoreOf(options, mesh, DType::kFloat32);
        ASSERT_TRUE(saved.Initialize(31).ok());
        const std::string path = folder / ("checkpoints/" + std::to_string(number++));
        const absl::Status status = SaveCheckpoint(path, {}, saved, mesh).status();
        ASSERT_TRUE(status.ok()) << status;
        const auto manifest = ReadManifest(path);
        ASSERT_TRUE(manifest.ok()) << manifest.status();
        for (int other = 1; other <= world; ++other) {
          if (world % other != 0 || 4 % other != 0) continue;
          const Mesh loaded_mesh = *Mesh::Create(World(), other, world / other);
          ParameterStore loaded = StoreOf(options, loaded_mesh, DType::kFloat32);
          ParameterStore expected = StoreOf(options, loaded_mesh, DType::kFloat32);
          ASSERT_TRUE(expected.Initialize(31).ok());
          const absl::Status load = LoadWeights(path, *manifest, loaded);
          ASSERT_TRUE(load.ok()) << load;
          ExpectInitialValues(loaded, expected);
        }
      }
    }
  }
}

TEST(Weights, DtypesAreConverted) {
  const SharedFolder folder;
  const Mesh mesh = *Mesh::Create(World(), 1, World().size());
  for (const DType from : {DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    ParameterStore saved = StoreOf({}, mesh, from);
    ASSERT_TRUE(saved.Initialize(3).ok());
    const std::string path = folder / ("checkpoints/" + std::string(Name(from)));
    ASSERT_TRUE(SaveCheckpoint(path, {}, saved, mesh).ok());
    const auto manifest = ReadManifest(path);
    for (const DType to : {DType::kFloat64, DType::kFloat32}) {
      if (SizeOf(to) < SizeOf(from)) continue;
      ParameterStore loaded = StoreOf({}, mesh, to);
      ASSERT_TRUE(LoadWeights(path, *manifest, loaded).ok());
      ExpectInitialValues(loaded, saved);
    }
  }
}

TEST(Weights, AModelOfAnotherShapeIsRejectedWithTheTensorsNamed) {
  const SharedFolder folder;
  const Mesh mesh = *Mesh::Create(World(), 1, World().size());
  ParameterStore saved = StoreOf({}, mesh, DType::kFloat32);
  ASSERT_TRUE(SaveCheckpoint(folder / "checkpoints/a", {}, saved, mesh).ok());
  const auto manifest = ReadManifest(folder / "checkpoints/a");
  ASSERT_TRUE(manifest.ok());
  const absl::Status factorised =
      LoadWeights(folder / "checkpoints/a", *manifest, StoreOf({.head_rank = 5}, mesh, DType::kFloat32));
  EXPECT_EQ(factorised.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(factorised.message()), HasSubstr("missing tensors: head.down.weight, head.up.weight"));
  EXPECT_THAT(std::string(factorised.message()), HasSubstr("unexpected: head.weight"));
  const absl::Status wider =
      LoadWeights(folder / "checkpoints/a", *manifest, StoreOf({.vocabulary = 600}, mesh, DType::kFloat32));
  EXPECT_THAT(std::string(wider.message()), HasSubstr("embedding.weight is [509, 16], the model needs [600, 16]"));
}

TEST(Weights, ACheckpointIsNeverReplaced) {
  const SharedFolder folder;
  const Mesh mesh = *Mesh::Create(World(), 1, World().size());
  ParameterStore first = StoreOf({}, mesh, DType::kFloat32), second = StoreOf({}, mesh, DType::kFloat32);
  ASSERT_TRUE(first.Initialize(1).ok());
  ASSERT_TRUE(second.Initialize(2).ok());
  const std::string path = folder / "checkpoints/step-00000001";
  CheckpointContents contents;
  contents.manifest.set_step(1);
  ASSERT_TRUE(SaveCheckpoint(path, contents, first, mesh).ok());
  EXPECT_FALSE(SaveCheckpoint(path, contents, second, mesh).ok());
  ASSERT_TRUE(LoadWeights(path, *ReadManifest(path), second).ok());
  ExpectInitialValues(second, first);
  EXPECT_TRUE(std::filesystem::equivalent(*FindCheckpoint(folder / ""), path));
}

}  // namespace
}  // namespace isthmus::testing
