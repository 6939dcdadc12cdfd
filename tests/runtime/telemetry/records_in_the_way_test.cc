// Tests records that a continued run can't take over and can't move, and files that hold anything but records.
#include <absl/cleanup/cleanup.h>
#include <absl/status/status.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "runtime/set_aside.h"
#include "runtime/telemetry/jsonl_sink.h"
#include "runtime/telemetry/kept_records.h"
#include "tests/support/as_nobody.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using testing::AsNobody;
using ::testing::HasSubstr;
using testing::InOwnProcess;
using testing::ReadText;
using testing::TemporaryFolder;
using ::testing::UnorderedElementsAre;
using testing::WriteText;

constexpr char kDamaged[] =
    "{\"step\":0}\n{\"step\":1,\"tokens\":256}\n{\"step\":2,\"tokens\":512}\n{\"step\":7,\"tokens\":768}\n"
    "{\"step\":4,\"tokens\":1024}\n";

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  return names;
}

absl::Status ContinueDamaged(const std::string& path) {
  Notes notes;
  return JsonlSink::Continue(path, {.last = 9, .tokens_each = 256}, notes).status();
}

// metrics.jsonl is a link to a file that anybody may write, in another folder.
class RecordsInTheWay : public ::testing::Test {
 protected:
  RecordsInTheWay() {
    std::filesystem::create_directory(there_);
    WriteText(file_, kDamaged);
    std::filesystem::create_symlink(file_, path_);
    chmod(folder_.path().c_str(), 0777);
    chmod(file_.c_str(), 0666);
  }
  // Tried twice, as a sink is that could not be opened.
  void ExpectRefusal(const std::string& why) const {
    for (int tries = 0; tries < 2; ++tries) {
      const bool refused = AsNobody([&] {
        const absl::Status status = ContinueDamaged(path_);
        return absl::IsPermissionDenied(status) &&
               absl::StartsWith(status.message(), path_ + ": line 4 is damaged or out of order") &&
               absl::StrContains(status.message(), why) &&
               absl::StrContains(status.message(), "nothing of it is lost; let its folder be written to");
      });
      EXPECT_TRUE(refused);
      EXPECT_EQ(ReadText(file_), kDamaged);
    }
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "metrics.jsonl", there_ = folder_ / "there", file_ = there_ + "/metrics";
};

TEST_F(RecordsInTheWay, AreLeftAsTheyAreIfTheirFolderMayNotBeWritten) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become a user without rights";
  chmod(there_.c_str(), 0755);
  ExpectRefusal("can't create the file");
  EXPECT_THAT(NamesIn(there_), UnorderedElementsAre("metrics"));
}

// In such a folder anybody may make files, and only the owner of a file may rename it.
TEST_F(RecordsInTheWay, AreLeftAsTheyAreIfOnlyTheirOwnerMayRenameThem) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become a user without rights";
  chmod(there_.c_str(), 01777);
  ExpectRefusal(file_);
  for (const std::string& name : NamesIn(there_)) EXPECT_EQ(ReadText(there_ + "/" + name), kDamaged) << name;
}

TEST_F(RecordsInTheWay, AreLeftAsTheyAreIfTheyAreMounted) {
  const std::string outside = folder_ / "outside";
  WriteText(outside, kDamaged);
  if (geteuid() != 0 || mount(outside.c_str(), file_.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    GTEST_SKIP() << "needs root and the right to mount a file";
  }
  const absl::Cleanup unmount = [&] { umount2(file_.c_str(), MNT_DETACH); };
  for (int tries = 0; tries < 2; ++tries) {
    const absl::Status status = ContinueDamaged(path_);
    EXPECT_THAT(std::string(status.message()), HasSubstr("can't set it aside: Device or resource busy"));
    EXPECT_EQ(ReadText(outside), kDamaged);
  }
  EXPECT_THAT(NamesIn(there_), UnorderedElementsAre("metrics"));
}

TEST(SetAsideFor, LeavesBothNamesIfItFails) {
  const TemporaryFolder folder;
  WriteText(folder / "old", "old");
  EXPECT_FALSE(SetAsideFor(folder / "missing", folder / "old").ok());
  EXPECT_THAT(NamesIn(folder.path()), UnorderedElementsAre("old"));
  WriteText(folder / "fresh", "fresh");
  const auto aside = SetAsideFor(folder / "fresh", folder / "old");
  ASSERT_TRUE(aside.ok()) << aside.status();
  EXPECT_EQ(*aside, folder / "old.1");
  EXPECT_EQ(ReadText(folder / "old"), "fresh");
  EXPECT_EQ(ReadText(folder / "old.1"), "old");
  EXPECT_THAT(NamesIn(folder.path()), UnorderedElementsAre("old", "old.1"));
}

// Bytes of memory that `work` adds to the most that this process had.
int64_t AddedMemory(const std::function<void()>& work) {
  const auto most = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return int64_t{usage.ru_maxrss} << 10;
  };
  const int64_t before = most();
  work();
  return most() - before;
}

TEST(FindRecords, ReadsNoFurtherWhereNothingIsWritten) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  WriteText(path, "{\"step\":1,\"tokens\":256}\n");
  std::filesystem::resize_file(path, uintmax_t{1} << 40);
  const KeptRecords kept = FindRecords(path, {.last = 1, .tokens_each = 256});
  EXPECT_EQ(kept.lines.size(), 1u);
  EXPECT_EQ(kept.trouble, "it was not read to its end, as it has no record in 67108864 bytes");
}

TEST(FindRecords, TakesLittleMemoryWhateverDamagedLinesHold) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl", sound = "{\"step\":0}\n{\"step\":1,\"tokens\":256}\n";
  const std::string deep = "{\"a\":" + std::string(4 << 20, '[');
  for (const std::string& rest : {std::string(8 << 20, '\n'), deep, deep + "\n"}) {
    WriteText(path, sound + rest);
    EXPECT_TRUE(InOwnProcess([&] {
      return AddedMemory([&] {
               FindRecords(path, {.last = 1, .tokens_each = 256});
               RecordStep(rest);
             }) < (int64_t{100} << 20);
    }));
    const KeptRecords kept = FindRecords(path, {.last = 1, .tokens_each = 256});
    EXPECT_EQ(kept.lines.size(), 2u);
    if (rest[0] == '\n') {
      EXPECT_EQ(kept.trouble, absl::StrCat(8 << 20, " lines are damaged or out of order, the first is 3"));
    } else {
      EXPECT_EQ(kept.trouble, rest.back() == '\n' ? "line 3 is damaged or out of order" : "");
    }
  }
}

TEST(RecordStep, IsThatOfTheOutermostObject) {
  EXPECT_EQ(RecordStep("{\"a\":{\"step\":1},\"step\":3,\"tokens\":[2,{\"step\":4}]}"), 3);
  EXPECT_EQ(RecordStep(" {\"step\":9223372036854775807} \r"), 9223372036854775807);
  for (const char* none :
       {"", "\n", "3", "[{\"step\":3}]", "{\"step\":3", "{\"step\":3}}", "{\"step\":[3]}", "{\"step\":\"3\"}",
        "{\"step\":3.0}", "{\"step\":-3}", "{\"step\":9223372036854775808}", "{\"step\":3,\"step\":{}}", "{}"}) {
    EXPECT_EQ(RecordStep(none), -1) << none;
  }
}

}  // namespace
}  // namespace isthmus
