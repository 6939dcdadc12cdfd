// A manifest with a right checksum may state anything. A false statement is an error that names what was found. The
// reader then allocates no memory for it, opens no file outside, and waits for nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/manifest_check.h"
#include "checkpoint/stored_file.h"
#include "checkpoint/verify.h"
#include "checkpoint/weights.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

class HostileManifest : public ::testing::Test {
 protected:
  HostileManifest()
      : replica_({.width = 4, .heads = 2, .head_dim = 2, .feed_forward = 4, .vocabulary = 11}),
        checkpoint_(CheckpointFolder(folder_.path(), 2)) {
    CheckpointContents contents;
    contents.manifest.set_step(2);
    contents.tokenizer_model = "a tokenizer";
    const auto saved = SaveCheckpoint(checkpoint_, contents, replica_.model().parameters(), replica_.mesh(),
                                      &replica_.model().optimizer());
    EXPECT_TRUE(saved.ok()) << saved.status();
    sound_ = *ReadManifest(checkpoint_);
  }
  absl::Status LoadIt() {
    const auto manifest = ReadManifest(checkpoint_);
    if (!manifest.ok()) return manifest.status();
    return LoadTrainingState(checkpoint_, *manifest, replica_.model().parameters(), replica_.model().optimizer());
  }

  TemporaryFolder folder_;
  Replica replica_;
  std::string checkpoint_;
  proto::CheckpointManifest sound_;
};

using Manifest = proto::CheckpointManifest;
using Slice = proto::TensorSlice;
using Change = std::function<void(Manifest&)>;

struct HostileCase {
  Change change;
  const char* said;
};

// Changes the shape of the first tensor, whose first slice is all of it.
Change Shape(int64_t rows, int64_t columns) {
  return [=](Manifest& m) {
    auto& tensor = *m.mutable_tensors(0);
    tensor.set_rows(rows);
    tensor.set_columns(columns);
    auto& slice = *tensor.mutable_slices(0);
    slice.set_row_end(rows);
    slice.set_column_end(columns);
    slice.set_chunk_rows(rows);
  };
}
Change InSlice(void (Slice::*set)(int64_t), int64_t value) {
  return [=](Manifest& m) { (m.mutable_tensors(0)->mutable_slices(0)->*set)(value); };
}
Change File(const std::string& name) {
  return [=](Manifest& m) { m.mutable_tensors(0)->mutable_slices(0)->set_file(name); };
}
Change Name(const std::string& text) {
  return [=](Manifest& m) { m.mutable_tensors(0)->set_name(text); };
}
Change Count(void (Manifest::*set)(int64_t), int64_t value) {
  return [=](Manifest& m) { (m.*set)(value); };
}
Change Refused(int64_t batch, int64_t batches, int times = 1) {
  return [=](Manifest& m) {
    for (int i = 0; i < times; ++i) {
      auto& one = *m.mutable_stability()->add_refused();
      one.set_step(1);
      one.set_batch(batch);
      one.set_batches(batches);
    }
  };
}

std::vector<HostileCase> TensorCases() {
  return {
      {Shape(int64_t{1} << 33, int64_t{1} << 31), "[8589934592, 2147483648]; accepted: 1 to 134217728 columns"},
      {Shape(int64_t{1} << 60, int64_t{1} << 4), "make less than 2^63 bytes"},
      {Shape(1, int64_t{1} << 60), "; accepted: 1 to 134217728 columns"},
      {Shape(-1, -44), "[-1, -44]; accepted"},
      {Shape(0, 4), "[0, 4]; accepted"},
      {Shape(int64_t{1} << 34, 4), " bytes; accepted: at most 1073741824"},
      {Shape(1000, 4), "a slice ends at byte 32000 of rank-0000.tensors, which has "},
      {InSlice(&Slice::set_offset, kHuge), "no file has so many"},
      {InSlice(&Slice::set_offset, int64_t{1} << 40), "a slice ends at byte "},
      {InSlice(&Slice::set_offset, -1), "a slice lies outside of the tensor"},
      {InSlice(&Slice::set_row_begin, std::numeric_limits<int64_t>::min()), "a slice lies outside of the tensor"},
      {InSlice(&Slice::set_column_end, kHuge), "a slice lies outside of the tensor"},
      {InSlice(&Slice::set_chunk_rows, 0), "another number of checksums than of chunks"},
      {InSlice(&Slice::set_chunk_rows, 1), "another number of checksums than of chunks"},
      {File("../rank-0000.tensors"), "it names a file that is none of the checkpoint's folder"},
      {File("/etc/passwd"), "it names a file that is none of the checkpoint's folder"},
      {File(".."), "it names a file that is none of the checkpoint's folder"},
      {File(""), "it names a file that is none of the checkpoint's folder"},
      {File("a\x1b[2J"), "\"a\\x1b[2J\": it names a file"},
      {File("other"), "a slice is in other, which is not among the files"},
      {Name("../../x"), "tensor \"../../x\": accepted as a name"},
      {Name(""), "tensor \"\": accepted as a name"},
      {Name(std::string(100000, 'x')), "accepted as a name"},
      {[](Manifest& m) { m.mutable_tensors(0)->set_dtype("int4"); }, "accepted: fp32, fp64, bf16"},
      {[](Manifest& m) { *m.add_tensors() = m.tensors(0); }, "is there twice"},
      {[](Manifest& m) { *m.add_files() = m.files(0); }, "is there twice"},
      {[](Manifest& m) { m.mutable_files(0)->set_bytes(-1); }, "has a negative size"},
      {[](Manifest& m) { m.mutable_files(1)->set_name("../../tokenizer.model"); }, "it names a file that is none of"},
      {[](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->set_offset(0); }, "are also those of tensor "},
      {[](Manifest& m) { m.mutable_tensors(0)->clear_slices(); }, "its slices do not cover it"},
  };
}

std::vector<HostileCase> OtherCases() {
  return {
      {Count(&Manifest::set_samples, -8), "samples: -8; accepted: 0 to "},
      {Count(&Manifest::set_tokens, kHuge), "tokens: 9223372036854775807; accepted: 0 to "},
      {Count(&Manifest::set_training_samples, -1), "training_samples: -1; accepted"},
      {[](Manifest& m) { m.set_elapsed_seconds(NAN); }, "elapsed_seconds: nan; accepted: a finite number"},
      {[](Manifest& m) { m.set_elapsed_seconds(-1); }, "elapsed_seconds: -1; accepted"},
      {Refused(int64_t{1} << 60, int64_t{1} << 60), "stability.refused.batch: 1152921504606846976; accepted"},
      {Refused(int64_t{1} << 50, int64_t{1} << 50), "stability.refused.batches: 1125899906842624; accepted: 1 to "},
      {Refused(5, 6), "stability.refused.batches: 6; accepted: 1 to 5"},
      {Refused(5, -1), "stability.refused.batches: -1; accepted"},
      {Refused(0, 0), "stability.refused.batch: 0; accepted"},
      {Refused(kMostPassedOver, kMostPassedOver / 2, 3), "stability.refused.batches: 8388608; accepted: 1 to 0"},
      {[](Manifest& m) { m.mutable_stability()->add_losses(NAN); }, "stability.losses: nan; accepted: finite"},
      {[](Manifest& m) { m.mutable_stability()->set_rollbacks_total(-1); }, "stability.rollbacks_total: -1"},
      {[](Manifest& m) { m.set_program_version("\x1b]0;x"); }, "program_version: \"\\x1b]0;x\"; accepted"},
  };
}

// Each change of a sound manifest is found, and the message says what was.
class HostileChange : public HostileManifest {
 protected:
  void ExpectFound(const std::vector<HostileCase>& cases) {
    ASSERT_TRUE(LoadIt().ok()) << LoadIt();
    for (const HostileCase& one : cases) {
      SCOPED_TRACE(one.said);
      Manifest changed = sound_;
      one.change(changed);
      ASSERT_TRUE(WriteManifest(checkpoint_, changed).ok());
      const auto problems = VerifyCheckpoint(checkpoint_).problems;
      ASSERT_THAT(problems, SizeIs(1));
      EXPECT_THAT(problems.front(), HasSubstr(checkpoint_ + "/manifest.pb: "));
      EXPECT_THAT(problems.front(), HasSubstr(one.said));
      EXPECT_TRUE(absl::IsDataLoss(LoadIt())) << LoadIt();
    }
    ASSERT_TRUE(WriteManifest(checkpoint_, sound_).ok());
    EXPECT_THAT(VerifyCheckpoint(checkpoint_).problems, IsEmpty());
  }
};

TEST_F(HostileChange, NoTensorIsBelieved) { ExpectFound(TensorCases()); }
TEST_F(HostileChange, NoLengthIsBelieved) { ExpectFound(OtherCases()); }

// A file that is larger than a manifest can be is not read, even if it takes little room on the disk.
TEST_F(HostileManifest, ManifestsWithoutEndAreRefusedByTheirSize) {
  const std::string path = checkpoint_ + "/manifest.pb";
  const std::string bytes = ReadText(path);
  std::filesystem::resize_file(path, uintmax_t{1} << 33);
  EXPECT_THAT(VerifyCheckpoint(checkpoint_).problems.front(),
              HasSubstr("manifest.pb: has 8589934592 bytes; accepted: at most 67108864"));
  WriteText(path, bytes);
  EXPECT_TRUE(LoadIt().ok());
  // Such a manifest is not written either.
  proto::CheckpointManifest large = sound_;
  large.mutable_config()->set_folder(std::string(kMostManifestBytes, 'x'));
  EXPECT_FALSE(WriteManifest(checkpoint_, large).ok());
  EXPECT_EQ(ReadText(path), bytes);
}

TEST_F(HostileManifest, WhatIsNoFileIsNeitherWaitedForNorReadForEver) {
  for (const std::string name : {"manifest.pb", "rank-0000.tensors", "tokenizer.model"}) {
    const std::string path = checkpoint_ + "/" + name, kept = folder_ / "kept";
    std::filesystem::rename(path, kept);
    struct Other {
      const char* what;
      std::function<void()> make;
    };
    for (const Other& other : {Other{"pipe", [&] { ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); }},
                               Other{"endless", [&] { std::filesystem::create_symlink("/dev/zero", path); }},
                               Other{"loop", [&] { std::filesystem::create_symlink(name, path); }},
                               Other{"nowhere", [&] { std::filesystem::create_symlink("/nowhere/at/all", path); }},
                               Other{"folder", [&] { std::filesystem::create_directory(path); }}}) {
      SCOPED_TRACE(name + " " + other.what);
      other.make();
      const auto problems = VerifyCheckpoint(checkpoint_).problems;
      ASSERT_THAT(problems, Not(IsEmpty()));
      EXPECT_THAT(problems.front(), HasSubstr(path));
      // None of these is damage, because the file may come back.
      EXPECT_TRUE(absl::IsFailedPrecondition(LoadIt())) << LoadIt();
      std::filesystem::remove(path);
    }
    std::filesystem::rename(kept, path);
    EXPECT_TRUE(LoadIt().ok()) << LoadIt();
  }
}

// A folder that leads to another disk is not damaged while that disk is away.
TEST_F(HostileManifest, ALinkThatLeadsNowhereIsNoDamage) {
  std::filesystem::rename(checkpoint_, folder_ / "archive");
  std::filesystem::create_symlink(folder_ / "archive", checkpoint_);
  EXPECT_TRUE(LoadIt().ok()) << LoadIt();
  std::filesystem::rename(folder_ / "archive", folder_ / "away");
  EXPECT_TRUE(absl::IsFailedPrecondition(LoadIt())) << LoadIt();
  EXPECT_THAT(std::string(LoadIt().message()), HasSubstr("is a link that leads nowhere"));
}

TEST_F(HostileManifest, ANewerFormatIsNoDamage) {
  proto::CheckpointManifest newer = sound_;
  newer.set_version(kCheckpointVersion + 1);
  ASSERT_TRUE(WriteManifest(checkpoint_, newer).ok());
  EXPECT_TRUE(absl::IsUnimplemented(LoadIt())) << LoadIt();
  // A step that differs from the folder's name is noticed even with a slash behind the name.
  sound_.set_step(3);
  ASSERT_TRUE(WriteManifest(checkpoint_, sound_).ok());
  EXPECT_THAT(std::string(ReadManifest(checkpoint_ + "/").status().message()), HasSubstr("is of step 3, not of"));
}

TEST_F(HostileManifest, AModelThatItDoesNotHoldIsNotMade) {
  const TinyOptions& options = replica_.options();
  proto::RunConfig config = TinyConfig(options);
  EXPECT_TRUE(CheckHolds(checkpoint_, sound_, config).ok());
  config.mutable_model()->set_layers(1 << 16);
  EXPECT_THAT(std::string(CheckHolds(checkpoint_, sound_, config).message()),
              HasSubstr("its configuration has 65536 layers"));
  config = TinyConfig(options);
  config.mutable_model()->set_width(1 << 24);
  EXPECT_THAT(std::string(CheckHolds(checkpoint_, sound_, config).message()),
              HasSubstr("the model needs [11, 16777216]"));
}

// An error carries the damaged place, so that other ranks can look at it.
TEST_F(HostileManifest, DamageCarriesItsPlace) {
  const std::string path = checkpoint_ + "/rank-0000.tensors", bytes = ReadText(path);
  std::string damaged = bytes;
  damaged[5] ^= 1;
  WriteText(path, damaged);
  const auto place = PlaceOf(LoadIt());
  ASSERT_TRUE(place.has_value());
  const auto other = UnpackedBytes(Packed(*place));
  ASSERT_TRUE(other.has_value());
  EXPECT_TRUE(absl::IsDataLoss(CheckStoredBytes(checkpoint_, *other)));
  WriteText(path, bytes);
  EXPECT_TRUE(CheckStoredBytes(checkpoint_, *other).ok());
  WriteText(path, bytes + "x");
  EXPECT_TRUE(absl::IsDataLoss(CheckStoredBytes(checkpoint_, *other)));
}

}  // namespace
}  // namespace isthmus::testing
