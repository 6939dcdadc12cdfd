// Checkpoints of version 1 hold weights alone. They are sampled from as they always were, and refused if they aren't
// enough.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <filesystem>
#include <string>

#include "checkpoint/manifest.h"
#include "checkpoint/tensor_reader.h"
#include "checkpoint/verify.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

// Writes a checkpoint as version 1 did: one file with gaps between its slices, and no list of files. Every slice has a
// single checksum.
void WriteVersionOne(const std::string& from, const std::string& to) {
  const auto current = ReadManifest(from);
  ASSERT_TRUE(current.ok()) << current.status();
  proto::CheckpointManifest manifest = *current;
  manifest.set_version(1);
  manifest.clear_tensors();
  manifest.clear_files();
  manifest.clear_finite();
  TensorReader reader(from, *current);
  std::string data;
  for (const auto& tensor : current->tensors()) {
    if (tensor.role() != proto::WEIGHT) continue;
    auto& old = *manifest.add_tensors();
    old.set_name(tensor.name());
    old.set_dtype(tensor.dtype());
    old.set_rows(tensor.rows());
    old.set_columns(tensor.columns());
    // Two slices, where there are rows for two.
    const int64_t middle = (tensor.rows() + 1) / 2;
    for (const Range rows : {Range{0, middle}, Range{middle, tensor.rows()}}) {
      if (rows.size() == 0) continue;
      std::string bytes(static_cast<size_t>(rows.size() * tensor.columns()) * sizeof(float), '\0');
      ASSERT_TRUE(reader
                      .Read(tensor, rows, {0, tensor.columns()},
                            Tensor(bytes.data(), DType::kFloat32, rows.size(), tensor.columns()))
                      .ok());
      data.resize((data.size() + 127) / 128 * 128 + 128, '\0');
      auto& slice = *old.add_slices();
      slice.set_row_begin(rows.begin);
      slice.set_row_end(rows.end);
      slice.set_column_begin(0);
      slice.set_column_end(tensor.columns());
      slice.set_file("rank-0000.weights");
      slice.set_offset(static_cast<int64_t>(data.size()));
      slice.set_checksum(XXH3_64bits(bytes.data(), bytes.size()));
      data += bytes;
    }
  }
  std::filesystem::create_directories(to);
  WriteText(to + "/rank-0000.weights", data);
  std::filesystem::copy(from + "/tokenizer.model", to + "/tokenizer.model");
  ASSERT_TRUE(WriteManifest(to, manifest).ok());
}

TEST(VersionOne, IsSampledFromAndNotContinuedFrom) {
  const TinyProject project;
  const std::string config = project.WriteConfig("run");
  ASSERT_EQ(RunIsthmus("train --config " + config).exit_status, 0);
  const std::string current = project / "run/checkpoints/step-00000020",
                    old = project / "old/checkpoints/step-00000020";
  WriteVersionOne(current, old);
  if (HasFatalFailure()) return;

  EXPECT_EQ(RunIsthmus(absl::StrCat("checkpoint verify ", old)).Count("sound: step 20"), 1);
  EXPECT_EQ(RunIsthmus(absl::StrCat("checkpoint show ", old)).Count("format 1"), 1);
  const std::string how = " --prompt \"the cat\" --tokens 20 --temperature 0";
  const ProgramResult expected = RunIsthmus(absl::StrCat("sample --checkpoint ", current, how));
  ASSERT_EQ(expected.exit_status, 0) << expected.out;
  const ProgramResult sampled = RunIsthmus(absl::StrCat("sample --checkpoint ", old, how));
  EXPECT_EQ(sampled.exit_status, 0) << sampled.out;
  EXPECT_EQ(sampled.out, expected.out);

  const ProgramResult continued = RunIsthmus(absl::StrCat("train --config ", config, " --set folder=", project / "next",
                                                          " --set schedule.steps=30 --resume ", old));
  EXPECT_EQ(continued.exit_status, 2) << continued.out;
  EXPECT_EQ(continued.Count(old + ": holds weights alone, without the optimizer"), 1) << continued.out;

  std::string bytes = ReadText(old + "/rank-0000.weights");
  bytes[bytes.size() / 2] ^= 1;
  WriteText(old + "/rank-0000.weights", bytes);
  EXPECT_EQ(RunIsthmus(absl::StrCat("sample --checkpoint ", old, how)).Count("the checksum is wrong"), 1);
  EXPECT_THAT(VerifyCheckpoint(old).problems.front(), HasSubstr("rank-0000.weights: tensor "));
}

TEST(VersionOne, AVersionOfTheFutureIsNamed) {
  const TemporaryFolder folder;
  proto::CheckpointManifest manifest;
  manifest.set_version(kCheckpointVersion + 1);
  ASSERT_TRUE(WriteManifest(folder.path(), manifest).ok());
  EXPECT_THAT(VerifyCheckpoint(folder.path()).problems.front(),
              HasSubstr("checkpoint of version 3, newer than this program, which reads versions 1 to 2"));
}

}  // namespace
}  // namespace isthmus::testing
