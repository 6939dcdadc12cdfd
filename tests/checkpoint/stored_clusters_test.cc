// The clusters of tokens in a checkpoint are the model's own, or they are refused.
#include "checkpoint/stored_clusters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/verify.h"
#include "checkpoint/weights.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TinyOptions ClusteredOptions() {
  TinyOptions options{.vocabulary = 11};
  options.head = "kind: 'cluster' clusters { count: 3 }";
  options.clusters = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1};
  return options;
}

class StoredClusters : public ::testing::Test {
 protected:
  StoredClusters() : replica_(ClusteredOptions()) {}

  // Saves a checkpoint with these clusters, whatever the model has, and returns its folder.
  std::string Save(const std::vector<int32_t>& clusters) {
    CheckpointContents contents;
    contents.manifest.set_step(++step_);
    *contents.manifest.mutable_config() = TinyConfig(ClusteredOptions());
    contents.clusters = clusters;
    std::string folder = CheckpointFolder(folder_.path(), step_);
    const auto saved =
        SaveCheckpoint(folder, contents, replica_.model().parameters(), replica_.mesh(), &replica_.model().optimizer());
    EXPECT_TRUE(saved.ok()) << saved.status();
    return folder;
  }
  // Expects that neither loading nor verifying takes them for the model's.
  void ExpectRefused(const std::string& folder, const std::string& why) {
    const absl::Status status = LoadClusters(folder, *ReadManifest(folder)).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    const VerifiedCheckpoint verified = VerifyCheckpoint(folder);
    ASSERT_EQ(verified.problems.size(), 1u);
    EXPECT_THAT(verified.problems.front(), HasSubstr(why));
  }

  TemporaryFolder folder_;
  Replica replica_;
  int64_t step_ = 0;
};

TEST_F(StoredClusters, AreReadAsTheyWereSaved) {
  const std::string folder = Save(ClusteredOptions().clusters);
  const auto manifest = ReadManifest(folder);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const auto clusters = LoadClusters(folder, *manifest);
  ASSERT_TRUE(clusters.ok()) << clusters.status();
  EXPECT_EQ(*clusters, ClusteredOptions().clusters);
  EXPECT_THAT(VerifyCheckpoint(folder).problems, IsEmpty());
}

TEST_F(StoredClusters, OfAnotherModelAreRefused) {
  ExpectRefused(Save({}), "clusters.npy: is not among the files of the checkpoint, whose head needs it");
  ExpectRefused(Save({0, 1, 2}), "clusters.npy: found int32 (3,)");
  std::vector<int32_t> more = ClusteredOptions().clusters;
  more[7] = 3;
  ExpectRefused(Save(more), "token 7 is of cluster 3; accepts 0 to model.head.clusters.count - 1 (2)");
}

TEST_F(StoredClusters, ThatAreMissingOrDamagedAreNamed) {
  const std::string folder = Save(ClusteredOptions().clusters), file = folder + "/clusters.npy";
  std::string bytes = ReadText(file);
  bytes.back() ^= 1;
  WriteText(file, bytes);
  ExpectRefused(folder, file + ": the checksum is wrong");
  std::filesystem::remove(file);
  EXPECT_TRUE(absl::IsNotFound(LoadClusters(folder, *ReadManifest(folder)).status()));
}

// A head without clusters needs no file, and old checkpoints have none.
TEST_F(StoredClusters, AreNotLookedForWithoutAHeadThatNeedsThem) {
  proto::CheckpointManifest manifest;
  *manifest.mutable_config() = TinyConfig({});
  EXPECT_THAT(*LoadClusters("nowhere", manifest), IsEmpty());
  manifest.mutable_config()->mutable_model()->mutable_head()->set_kind("of a later program");
  EXPECT_THAT(*LoadClusters("nowhere", manifest), IsEmpty());
}

}  // namespace
}  // namespace isthmus::testing
