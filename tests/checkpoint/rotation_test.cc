// Tests which checkpoints stay.
#include "checkpoint/rotation.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "checkpoint/background_save.h"
#include "checkpoint/manifest.h"
#include "checkpoint/weights.h"
#include "tests/support/program.h"
#include "tests/support/refused_call.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

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
  // This is the state when the disk that it leads to is not mounted.
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
  EXPECT_EQ(again->names.size(), 2u);
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "checkpoints/latest"), "step-00000001");
  EXPECT_THAT(Rotate(9), ElementsAre(1));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "checkpoints/step-00000003.set-aside"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "checkpoints/step-00000003.set-aside-2"));
  // This is the state after going back to the beginning.
  ASSERT_TRUE(SetAsideLater(folder_.path(), 0).ok());
  EXPECT_FALSE(std::filesystem::is_symlink(folder_ / "checkpoints/latest"));
}

// Copying a run can turn the link into such a folder.
TEST_F(Rotation, AFolderNamedLatestIsMovedAsideAndStopsNothing) {
  for (int64_t step = 1; step <= 3; ++step) Save(step);
  const std::string latest = folder_ / "checkpoints/latest";
  std::filesystem::remove(latest);
  std::filesystem::copy(CheckpointFolder(folder_.path(), 3), latest);
  std::filesystem::create_directory(latest + ".tmp");
  const auto said = PointToLatest(folder_.path(), 3);
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_THAT(*said, HasSubstr(latest + " is a folder, not a link: it is " + latest + ".set-aside now"));
  EXPECT_EQ(ReadManifest(latest + ".set-aside")->step(), 3);
  EXPECT_EQ(std::filesystem::read_symlink(latest), "step-00000003");
  EXPECT_EQ(*PointToLatest(folder_.path(), 3), "");
  EXPECT_THAT(Rotate(1), ElementsAre(3));
  // The folder does not keep a run from going back either.
  Save(4);
  std::filesystem::remove(latest);
  std::filesystem::create_directory(latest);
  const auto later = SetAsideLater(folder_.path(), 3);
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_THAT(later->names, ElementsAre(CheckpointFolder(folder_.path(), 4) + ".set-aside"));
  EXPECT_THAT(later->latest, HasSubstr(latest + " is a folder, not a link"));
  EXPECT_EQ(std::filesystem::read_symlink(latest), "step-00000003");
}

// A full disk, unlike a file system without links, takes no file either.
TEST_F(Rotation, ALinkThatCannotBeReplacedNowStays) {
  for (int64_t step = 1; step <= 2; ++step) Save(step);
  for (const int error : {ENOSPC, EDQUOT, EIO}) {
    const auto said = InChildWithout({SYS_symlink, SYS_symlinkat}, error, [&] {
      const auto pointed = PointToLatest(folder_.path(), 1);
      const auto later = SetAsideLater(folder_.path(), 1);
      if (later.ok()) std::filesystem::rename(later->names.front(), CheckpointFolder(folder_.path(), 2));
      return absl::StrCat(pointed.ok() ? "done" : "refused", ", ", later.ok() ? later->latest : "refused");
    });
    if (!said.has_value()) GTEST_SKIP() << "the kernel has no filters for system calls";
    EXPECT_THAT(*said, HasSubstr("refused, "));
    EXPECT_THAT(*said, HasSubstr("checkpoints/latest: can't make the link: "));
    EXPECT_EQ(std::filesystem::read_symlink(folder_ / "checkpoints/latest"), "step-00000002");
  }
}

TEST_F(Rotation, WhatARunGoesOnFromGetsItsStepsName) {
  for (int64_t step = 1; step <= 2; ++step) Save(step);
  ASSERT_TRUE(SetAsideLater(folder_.path(), 1).ok());
  const std::string one = CheckpointFolder(folder_.path(), 1), two = CheckpointFolder(folder_.path(), 2);
  std::filesystem::create_directory(folder_ / "checkpoints/step-mine.set-aside");
  EXPECT_THAT(*ListSetAside(folder_.path()), ElementsAre(two + ".set-aside"));
  const auto named = NameAfterStep(folder_.path(), two + ".set-aside", 2);
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_TRUE(named->renamed);
  EXPECT_EQ(named->set_aside, "");
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "checkpoints/latest"), "step-00000002");
  // The one that has the name makes room.
  std::filesystem::copy(two, two + ".set-aside");
  WriteText(two + ".set-aside/mine", "");
  EXPECT_EQ(NameAfterStep(folder_.path(), two + ".set-aside", 2)->set_aside, two + ".set-aside-2");
  EXPECT_TRUE(std::filesystem::exists(two + "/mine"));
  EXPECT_THAT(*ListSetAside(folder_.path()), ElementsAre(two + ".set-aside-2"));
  // Nothing is to be done for these.
  std::filesystem::copy(one, folder_ / "elsewhere");
  for (const std::string& folder : {two, folder_ / "checkpoints/latest", folder_ / "elsewhere"}) {
    EXPECT_FALSE(NameAfterStep(folder_.path(), folder, 2)->renamed) << folder;
  }
  EXPECT_THAT(*ListSetAside(folder_.path()), ElementsAre(two + ".set-aside-2"));
  EXPECT_THAT(*ListSetAside(folder_ / "none"), IsEmpty());
}

// FAT and some network file systems have no links.
TEST_F(Rotation, WithoutLinksLatestIsASmallFile) {
  Save(1);
  std::filesystem::remove(folder_ / "checkpoints/latest");
  Save(2);
  const auto said = InChildWithout({SYS_symlink, SYS_symlinkat}, EPERM, [&] {
    // The first pointer replaces a link that was made elsewhere, the second one its own file.
    for (const int64_t step : {1, 2}) {
      const auto pointed = PointToLatest(folder_.path(), step);
      if (!pointed.ok()) return pointed.status().ToString();
    }
    return std::string("done");
  });
  if (!said.has_value()) GTEST_SKIP() << "the kernel has no filters for system calls";
  EXPECT_EQ(*said, "done");
  const std::string latest = folder_ / "checkpoints/latest";
  EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(latest)));
  EXPECT_EQ(ReadText(latest), "step-00000002\n");
  const auto found = FindCheckpoint(latest);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, CheckpointFolder(folder_.path(), 2));
  // The one that it names has been moved.
  for (const bool link : {false, true}) {
    std::filesystem::remove(latest);
    if (link) std::filesystem::create_symlink("step-00000099", latest);
    if (!link) WriteText(latest, "step-00000099\n");
    EXPECT_EQ(std::string(FindCheckpoint(latest).status().message()),
              latest + ": names step-00000099, which is not there; give the run folder or another checkpoint");
  }
  std::filesystem::remove(latest);
  // The pointer leads nowhere else.
  for (const char* other : {"../../other", "/etc", "step-1/../..", "", "step-"}) {
    WriteText(latest, other);
    EXPECT_FALSE(FindCheckpoint(latest).ok()) << other;
  }
  EXPECT_TRUE(PointToLatest(folder_.path(), 2).ok());
  EXPECT_EQ(std::filesystem::read_symlink(latest), "step-00000002");
}

TEST_F(Rotation, OneThatCannotBeRemovedKeepsNoOther) {
  for (int64_t step = 1; step <= 4; ++step) Save(step);
  const std::string stuck = CheckpointFolder(folder_.path(), 2);
  // The folder holds a file that nobody may remove: a mount point, or a file without permission.
  const bool root = geteuid() == 0;
  if (root && mount(stuck.c_str(), stuck.c_str(), nullptr, MS_BIND, nullptr) != 0) GTEST_SKIP() << "needs mounts";
  if (!root) chmod(stuck.c_str(), 0500);
  proto::CheckpointConfig config;
  config.set_keep(1);
  for (const char* leftover : {"step-00000007.tmp", "step-00000008.tmp"}) {
    std::filesystem::create_directory(folder_ / (std::string("checkpoints/") + leftover));
  }
  const absl::Status status = RotateCheckpoints(folder_.path(), config);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("step-00000002"));
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "checkpoints")) {
    names.insert(entry.path().filename().string());
  }
  EXPECT_THAT(names, ElementsAre("latest", root ? "step-00000002" : "step-00000002.tmp", "step-00000004"));
  if (root) {
    umount2(stuck.c_str(), MNT_DETACH);
  } else {
    chmod((stuck + ".tmp").c_str(), 0700);
  }
  EXPECT_THAT(Rotate(1), ElementsAre(4));
}

TEST_F(Rotation, OnlyNamesOfItsOwnAreLeftovers) {
  Save(1);
  const std::string folder = folder_ / "checkpoints/";
  const std::set<std::string> foreign = {"mine.tmp", "step-mine.tmp", "step-00000001-notes.tmp", "latest.old.tmp"};
  for (const std::string& name : foreign) std::filesystem::create_directory(folder + name);
  for (const char* own : {"step-00000003.tmp", "step-00000003-2.tmp"}) std::filesystem::create_directory(folder + own);
  WriteText(folder + "latest.123.tmp", "step-");
  EXPECT_TRUE(RemoveLeftovers(folder_.path()).ok());
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) left.insert(entry.path().filename().string());
  std::set<std::string> expected = foreign;
  expected.insert({"latest", "step-00000001"});
  EXPECT_EQ(left, expected);
}

TEST_F(Rotation, OfALinkTheLinkIsRemoved) {
  for (int64_t step = 1; step <= 2; ++step) Save(step);
  std::filesystem::rename(CheckpointFolder(folder_.path(), 1), folder_ / "archive");
  std::filesystem::create_directory_symlink(folder_ / "archive", CheckpointFolder(folder_.path(), 1));
  EXPECT_THAT(Rotate(1), ElementsAre(2));
  EXPECT_EQ(ReadManifest(folder_ / "archive")->step(), 1);
}

// A limit on threads is an error of the save that meets it.
TEST_F(Rotation, AThreadThatCannotBeStartedCostsOneSave) {
  Replica replica({.width = 4, .heads = 2, .head_dim = 2, .feed_forward = 4, .vocabulary = 11});
  const std::string path = CheckpointFolder(folder_.path(), 1);
  const auto said = InChildWithout({SYS_clone, SYS_clone3}, EAGAIN, [&] {
    omp_set_num_threads(1);  // the child has none of the parent's threads
    BackgroundSave background(replica.mesh());
    const absl::Status started =
        background.Start(path, {}, replica.model().parameters(), replica.model().optimizer(), [] {});
    if (!started.ok()) return started.ToString();
    const auto outcome = background.Poll(true);
    return absl::StrCat(outcome.status().ToString(), background.pending() ? " pending" : "");
  });
  if (!said.has_value()) GTEST_SKIP() << "the kernel has no filters for system calls";
  EXPECT_THAT(*said,
              HasSubstr("RESOURCE_EXHAUSTED: " + path + ": can't write the checkpoint: a thread can't be started: "));
  EXPECT_THAT(*said, Not(HasSubstr("pending")));
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

}  // namespace
}  // namespace isthmus::testing
