// Whatever happens to the bytes of a checkpoint, verify and load notice.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/statistics.h"
#include "checkpoint/tensor_reader.h"
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

// This is as small as a model with all kinds of tensors gets.
TinyOptions SmallestOptions() {
  return {.width = 4,
          .heads = 2,
          .head_dim = 2,
          .feed_forward = 4,
          .vocabulary = 11,
          .precision = proto::PrecisionConfig::BF16};
}

class Damage : public ::testing::Test {
 protected:
  Damage() : replica_(SmallestOptions()), checkpoint_(folder_ / "checkpoints/step-00000002") {
    replica_.Step(1);
    Save(replica_, 2);
  }

  void Save(Replica& replica, int64_t step) {
    CheckpointContents contents;
    contents.manifest.set_step(step);
    contents.tokenizer_model = tokenizer_;
    if (fingerprint_ != 0) contents.manifest.set_tokenizer_fingerprint(fingerprint_);
    const auto saved = SaveCheckpoint(CheckpointFolder(folder_.path(), step), contents, replica.model().parameters(),
                                      replica.mesh(), &replica.model().optimizer());
    ASSERT_TRUE(saved.ok()) << saved.status();
    ASSERT_TRUE(saved->finite);
  }
  absl::Status Load(const std::string& path) {
    const auto manifest = ReadManifest(path);
    if (!manifest.ok()) return manifest.status();
    return LoadTrainingState(path, *manifest, replica_.model().parameters(), replica_.model().optimizer());
  }
  void ExpectSound() {
    EXPECT_THAT(VerifyCheckpoint(checkpoint_).problems, IsEmpty());
    EXPECT_TRUE(Load(checkpoint_).ok()) << Load(checkpoint_);
  }
  // `file` must be named in the messages.
  void ExpectDamaged(const std::string& file) {
    const VerifiedCheckpoint verified = VerifyCheckpoint(checkpoint_);
    ASSERT_THAT(verified.problems, Not(IsEmpty()));
    EXPECT_THAT(verified.problems.front(), HasSubstr(file));
    const absl::Status load = Load(checkpoint_);
    ASSERT_FALSE(load.ok());
    EXPECT_THAT(std::string(load.message()), HasSubstr(file));
  }
  // Replaces each file in turn with the one of that name in `other`.
  void ExpectEveryForeignFileNoticed(const std::string& other) {
    for (const std::string& name : Files()) {
      const std::string path = checkpoint_ + "/" + name, before = ReadText(path),
                        foreign = ReadText(other + "/" + name);
      ASSERT_FALSE(before == foreign) << name;
      WriteText(path, foreign);
      // A foreign manifest makes all other files wrong.
      ExpectDamaged(name == "manifest.pb" ? checkpoint_ : name);
      WriteText(path, before);
    }
    ExpectSound();
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(checkpoint_)) {
      files.push_back(entry.path().filename().string());
    }
    return files;
  }

  TemporaryFolder folder_;
  Replica replica_;
  std::string checkpoint_;
  std::string tokenizer_ = "not looked into";
  uint64_t fingerprint_ = 0;  // what the manifest says of it; 0: nothing
};

TEST_F(Damage, EveryFlippedByteIsNoticed) {
  ASSERT_THAT(Files(), SizeIs(3));
  ExpectSound();
  // It takes every seventh where kernels or sanitizers are slow, which still is every bit of a byte.
  const int64_t stride = std::getenv("ISTHMUS_TEST_STEPS") == nullptr ? 1 : 7;
  int64_t flipped = 0;
  for (const std::string& name : Files()) {
    const std::string path = checkpoint_ + "/" + name;
    const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
    const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(descriptor, 0);
    for (int64_t at = 0; at < size; at += stride, ++flipped) {
      char byte = 0;
      ASSERT_EQ(pread(descriptor, &byte, 1, at), 1);
      const char other = static_cast<char>(byte ^ (1 << (at % 8)));
      ASSERT_EQ(pwrite(descriptor, &other, 1, at), 1);
      ExpectDamaged(name);
      ASSERT_EQ(pwrite(descriptor, &byte, 1, at), 1);
      if (HasFailure()) FAIL() << name << " byte " << at;
    }
    close(descriptor);
  }
  EXPECT_GT(flipped, 5000 / stride);
  ExpectSound();
}

TEST_F(Damage, FilesOfAnotherLengthOrNoneAreNoticed) {
  for (const std::string& name : Files()) {
    const std::string path = checkpoint_ + "/" + name, before = ReadText(path);
    for (const size_t length : {size_t{0}, size_t{1}, before.size() / 2, before.size() - 1}) {
      WriteText(path, before.substr(0, length));
      ExpectDamaged(name);
    }
    WriteText(path, before + "x");
    ExpectDamaged(name);
    std::filesystem::remove(path);
    ExpectDamaged(name);
    std::filesystem::create_directories(path);
    ExpectDamaged(name);
    std::filesystem::remove(path);
    WriteText(path, before);
    ExpectSound();
  }
}

// It takes each file in turn, then all at once.
TEST_F(Damage, FilesOfAnotherStepAreNoticed) {
  const std::string other = folder_ / "checkpoints/step-00000004";
  replica_.Step(2);
  tokenizer_ = "of another run.";
  Save(replica_, 4);
  ExpectEveryForeignFileNoticed(other);
  std::filesystem::remove_all(checkpoint_);
  std::filesystem::copy(other, checkpoint_);
  ExpectDamaged(checkpoint_ + "/manifest.pb: is of step 4, not of the step that the folder is named after");
}

// Shapes and step are the same. The whole folder would be a sound checkpoint, of a run that has another seed.
TEST_F(Damage, FilesOfAnotherRunAreNoticed) {
  std::filesystem::rename(checkpoint_, folder_ / "kept");
  Replica foreign(SmallestOptions(), nullptr, 8);
  foreign.Step(1);
  tokenizer_ = "of another run.";
  Save(foreign, 2);
  std::filesystem::rename(checkpoint_, folder_ / "other");
  std::filesystem::rename(folder_ / "kept", checkpoint_);
  for (const std::string& name : Files()) {
    ASSERT_EQ(std::filesystem::file_size(checkpoint_ + "/" + name),
              std::filesystem::file_size(folder_ / "other/" + name));
  }
  ExpectEveryForeignFileNoticed(folder_ / "other");
}

// Its bytes are those that were saved.
TEST_F(Damage, ATokenizerThatIsNotTheTokensIsNoticed) {
  const auto manifest = ReadManifest(checkpoint_);
  ASSERT_TRUE(manifest.ok());
  for (const auto& file : manifest->files()) {
    if (file.name() == kTokenizerFile) fingerprint_ = file.checksum();
  }
  ASSERT_NE(fingerprint_, 0u);
  Save(replica_, 4);
  EXPECT_THAT(VerifyCheckpoint(CheckpointFolder(folder_.path(), 4)).problems, IsEmpty());
  tokenizer_ = "of another run.";
  Save(replica_, 6);
  const auto problems = VerifyCheckpoint(CheckpointFolder(folder_.path(), 6)).problems;
  ASSERT_THAT(problems, SizeIs(1));
  EXPECT_THAT(problems.front(), HasSubstr("step-00000006/tokenizer.model: fingerprint "));
}

// There may be more files, one for each rank that wrote, than a process may open.
TEST_F(Damage, AReaderGetsByWithFewOpenFiles) {
  auto manifest = *ReadManifest(checkpoint_);
  const std::string data = "rank-0000.tensors";
  const auto files = 2 * static_cast<int>(TensorReader::kMostOpen);
  for (int i = 0; i < files; ++i) {
    std::filesystem::create_hard_link(checkpoint_ + "/" + data, checkpoint_ + "/" + std::to_string(i));
  }
  const auto open_files = [] {
    const std::filesystem::directory_iterator entries("/proc/self/fd");
    return std::distance(begin(entries), end(entries)) - 1;
  };
  const auto before = open_files();
  TensorReader reader(checkpoint_, manifest);
  const auto& tensor = manifest.tensors(0);
  proto::TensorSlice slice = tensor.slices(0);
  const auto read_all = [&] {
    for (int i = 0; i < files; ++i) {
      slice.set_file(std::to_string(i));
      const auto chunk = reader.ReadChunk(tensor, slice, 0);
      ASSERT_TRUE(chunk.ok()) << chunk.status();
    }
  };
  read_all();
  EXPECT_EQ(open_files() - before, TensorReader::kMostOpen);
  // Other files take nearly all of the permitted number.
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit few = {static_cast<rlim_t>(before + 8), limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  read_all();
  setrlimit(RLIMIT_NOFILE, &limit);
}

TEST_F(Damage, AMessageNamesFileTensorAndPlace) {
  const auto manifest = ReadManifest(checkpoint_);
  ASSERT_TRUE(manifest.ok());
  const auto& tensor = manifest->tensors(manifest->tensors_size() - 1);
  const auto& slice = tensor.slices(0);
  const std::string path = checkpoint_ + "/" + slice.file();
  std::string bytes = ReadText(path);
  bytes[static_cast<size_t>(slice.offset())] ^= 1;
  WriteText(path, bytes);
  const VerifiedCheckpoint verified = VerifyCheckpoint(checkpoint_);
  ASSERT_THAT(verified.problems, SizeIs(1));
  EXPECT_THAT(verified.problems.front(),
              HasSubstr(path + ": tensor head.weight (second moment) at byte " + std::to_string(slice.offset())));
}

TEST_F(Damage, StatisticsAndDifferencesAreThoseOfTheValues) {
  const std::string other = folder_ / "checkpoints/step-00000004";
  const Tensor norm = replica_.model().parameters().Weight("final_norm.weight");
  for (int64_t i = 0; i < 4; ++i) SetElement(norm, i, static_cast<double>(i) - 1);
  std::filesystem::remove_all(checkpoint_);
  Save(replica_, 2);
  SetElement(norm, 3, 5);
  Save(replica_, 4);
  const auto manifest = *ReadManifest(checkpoint_), changed = *ReadManifest(other);
  TensorReader reader(checkpoint_, manifest), other_reader(other, changed);
  for (int i = 0; i < manifest.tensors_size(); ++i) {
    const auto& tensor = manifest.tensors(i);
    const auto difference = DifferenceOf(tensor, reader, changed.tensors(i), other_reader);
    ASSERT_TRUE(difference.ok()) << difference.status();
    const bool is_norm = tensor.name() == "final_norm.weight" && tensor.role() == proto::WEIGHT;
    EXPECT_EQ(difference->different, is_norm ? 1 : 0) << tensor.name();
    if (!is_norm) continue;
    EXPECT_EQ(difference->largest, 3);
    EXPECT_NEAR(difference->relative, 3 / std::sqrt(6.0), 1e-12);
    const auto statistics = StatisticsOf(tensor, reader);
    ASSERT_TRUE(statistics.ok());
    EXPECT_EQ(statistics->minimum, -1);
    EXPECT_EQ(statistics->maximum, 2);
    EXPECT_EQ(statistics->mean, 0.5);
    EXPECT_NEAR(statistics->root_mean_square, std::sqrt(1.5), 1e-12);
    EXPECT_EQ(statistics->not_finite, 0);
  }
}

}  // namespace
}  // namespace isthmus::testing
