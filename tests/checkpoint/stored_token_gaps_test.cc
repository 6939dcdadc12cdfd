// The gaps between tokens in a checkpoint are possible ones, or they are refused.
#include "checkpoint/stored_token_gaps.h"

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

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StoredTokenGaps : public ::testing::Test {
 protected:
  StoredTokenGaps() : replica_(TinyOptions{.vocabulary = 2}) {}

  // Saves a checkpoint of step 9 with this state, and returns its folder.
  std::string Save(const std::vector<int64_t>& state) {
    CheckpointContents contents;
    contents.manifest.set_step(9);
    *contents.manifest.mutable_config() = TinyConfig(TinyOptions{.vocabulary = 2});
    contents.token_gaps = state;
    std::string folder = CheckpointFolder(folder_.path() + "/" + std::to_string(++saved_), 9);
    std::filesystem::create_directories(std::filesystem::path(folder).parent_path());
    const auto saved =
        SaveCheckpoint(folder, contents, replica_.model().parameters(), replica_.mesh(), &replica_.model().optimizer());
    EXPECT_TRUE(saved.ok()) << saved.status();
    return folder;
  }
  // Expects that neither loading nor verifying takes it.
  void ExpectRefused(const std::string& folder, const std::string& why) {
    const absl::Status status = LoadTokenGaps(folder, *ReadManifest(folder)).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    EXPECT_THAT(VerifyCheckpoint(folder).problems, ElementsAre(HasSubstr(why)));
  }

  TemporaryFolder folder_;
  Replica replica_;
  int saved_ = 0;
};

TEST_F(StoredTokenGaps, AreReadAsTheyWereSaved) {
  const std::string folder = Save({1, 9, 4, 0, 0, 0});
  const auto state = LoadTokenGaps(folder, *ReadManifest(folder));
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_THAT(*state, ElementsAre(1, 9, 4, 0, 0, 0));
  EXPECT_THAT(VerifyCheckpoint(folder).problems, IsEmpty());
}

TEST_F(StoredTokenGaps, MayBeMissing) {
  const std::string folder = Save({});
  EXPECT_THAT(*LoadTokenGaps(folder, *ReadManifest(folder)), IsEmpty());
  EXPECT_THAT(VerifyCheckpoint(folder).problems, IsEmpty());
}

TEST_F(StoredTokenGaps, ThatCanNotBeAreRefused) {
  ExpectRefused(Save({1, 9, 4}),
                "token_gaps.npy: found int64 (3,); accepts a vector of int64, three numbers for each of 2 ");
  ExpectRefused(Save({1, 9, 4, 2, 10, 3}), "token_gaps.npy: token 1 came in 3 steps from step 2 to 10");
}

// Three times the first does not fit in 64 bits, which the sanitizer notices in a program that multiplies.
TEST_F(StoredTokenGaps, OfAHostileVocabularyAreRefused) {
  const std::string folder = Save({1, 9, 4, 0, 0, 0});
  auto manifest = ReadManifest(folder);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  for (const int64_t vocabulary : {int64_t{1} << 62, int64_t{-2}, int64_t{0}}) {
    manifest->mutable_config()->mutable_model()->set_vocabulary(vocabulary);
    EXPECT_TRUE(absl::IsDataLoss(LoadTokenGaps(folder, *manifest).status())) << vocabulary;
  }
}

TEST_F(StoredTokenGaps, ThatAreMissingOrDamagedAreNamed) {
  const std::string folder = Save({1, 9, 4, 0, 0, 0}), file = folder + "/token_gaps.npy";
  std::string bytes = ReadText(file);
  bytes.back() ^= 1;
  WriteText(file, bytes);
  ExpectRefused(folder, file + ": the checksum is wrong");
  std::filesystem::remove(file);
  EXPECT_TRUE(absl::IsNotFound(LoadTokenGaps(folder, *ReadManifest(folder)).status()));
}

}  // namespace
}  // namespace isthmus::testing
