// Which checkpoints stay.
#include "checkpoint/rotation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "checkpoint/manifest.h"
#include "checkpoint/weights.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Rotation : public ::testing::Test {
 protected:
  Rotation() : replica_({.width = 4, .heads = 2, .head_dim = 2, .feed_forward = 4, .vocabulary = 11}) {}

  void Save(int64_t step, std::optional<double> validation_loss = {}, bool finite = true) {
    CheckpointContents contents;
    contents.manifest.set_step(step);
    if (validation_loss.has_value()) contents.manifest.set_validation_loss(*validation_loss);
    const Tensor weight = replica_.model().parameters().Weight("final_norm.weight");
    SetElement(weight, 0, finite ? 1 : INFINITY);
    const auto saved = SaveCheckpoint(CheckpointFolder(folder_.path(), step), contents, replica_.model().parameters(),
                                      replica_.mesh());
    ASSERT_TRUE(saved.ok()) << saved.status();
    ASSERT_TRUE(PointToLatest(folder_.path(), step).ok());
  }
  std::set<int64_t> Rotate(int64_t keep, int64_t keep_every = 0) {
    proto::CheckpointConfig config;
    config.set_keep(keep);
    config.set_keep_every(keep_every);
    const absl::Status status = RotateCheckpoints(folder_.path(), config);
    EXPECT_TRUE(status.ok()) << status;
    std::set<int64_t> steps;
    const auto stored = ListCheckpoints(folder_.path());
    EXPECT_TRUE(stored.ok()) << stored.status();
    for (const StoredCheckpoint& one : *stored) steps.insert(one.step);
    return steps;
  }

  TemporaryFolder folder_;
  Replica replica_;
};

TEST_F(Rotation, KeepsTheNewestEveryMthAndTheBest) {
  for (int64_t step = 1; step <= 10; ++step) Save(step, step == 3 ? 1.0 : 2.0);
  EXPECT_THAT(Rotate(2, 5), ElementsAre(3, 5, 9, 10));
  EXPECT_THAT(Rotate(1), ElementsAre(3, 10));
  Save(11, 0.5);
  Save(12, NAN);
  EXPECT_THAT(Rotate(1), ElementsAre(11, 12));
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "checkpoints/latest"), "step-00000012");
  EXPECT_EQ(ReadManifest(folder_ / "checkpoints/latest")->step(), 12);
}

TEST_F(Rotation, TheLastOneWithFiniteValuesStaysHoweverManyFollow) {
  Save(1);
  Save(2);
  for (int64_t step = 3; step <= 6; ++step) Save(step, {}, false);
  EXPECT_THAT(Rotate(2), ElementsAre(2, 5, 6));
  Save(7);
  EXPECT_THAT(Rotate(1), ElementsAre(7));
}

TEST_F(Rotation, LeftoversGoAndWhatCannotBeReadStays) {
  Save(1);
  Save(2);
  std::filesystem::create_directories(folder_ / "checkpoints/step-00000003.tmp");
  WriteText(folder_ / "checkpoints/step-00000003.tmp/rank-0000.tensors", "half");
  WriteText(folder_ / "checkpoints/step-00000001/manifest.pb", "damaged");
  Save(4);
  EXPECT_THAT(Rotate(1), ElementsAre(1, 4));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "checkpoints/step-00000003.tmp"));
}

TEST_F(Rotation, AFolderThatCannotBeListedIsNotOneWithoutCheckpoints) {
  const auto none = ListCheckpoints(folder_.path());
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_THAT(*none, IsEmpty());
  // As when the disk that it leads to is not mounted.
  std::filesystem::create_directory_symlink(folder_ / "gone", folder_ / "checkpoints");
  EXPECT_THAT(std::string(ListCheckpoints(folder_.path()).status().message()),
              HasSubstr("checkpoints: can't list the checkpoints"));
  EXPECT_FALSE(FindCheckpoint(folder_.path()).ok());
  std::filesystem::remove(folder_ / "checkpoints");
  WriteText(folder_ / "checkpoints", "not a folder");
  EXPECT_FALSE(ListCheckpoints(folder_.path()).ok());
  EXPECT_FALSE(ListCheckpoints(folder_ / "checkpoints").ok());
}

TEST_F(Rotation, LaterOnesAreSetAside) {
  for (int64_t step = 1; step <= 3; ++step) Save(step);
  ASSERT_TRUE(SetAsideLater(folder_.path(), 2).ok());
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "checkpoints/latest"), "step-00000002");
  Save(3);
  const auto again = SetAsideLater(folder_.path(), 1);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->size(), 2u);
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "checkpoints/latest"), "step-00000001");
  EXPECT_THAT(Rotate(9), ElementsAre(1));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "checkpoints/step-00000003.set-aside"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "checkpoints/step-00000003.set-aside-2"));
  // As after going back to the beginning.
  ASSERT_TRUE(SetAsideLater(folder_.path(), 0).ok());
  EXPECT_FALSE(std::filesystem::is_symlink(folder_ / "checkpoints/latest"));
}

}  // namespace
}  // namespace isthmus::testing
