// Tests what a continued run does with the records and event files of earlier starts.
#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/jsonl_sink.h"
#include "runtime/telemetry/tensorboard_sink.h"
#include "runtime/telemetry/textfile_sink.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::ReadText;
using testing::TemporaryFolder;
using testing::WriteText;

std::string StepLine(int64_t step) { return absl::StrCat("{\"step\":", step, ",\"tokens\":", step * 256, "}\n"); }

std::string StepLines(int64_t first, int64_t last) {
  std::string text;
  for (int64_t step = first; step <= last; ++step) text += StepLine(step);
  return text;
}

class ContinuedRecords : public ::testing::Test {
 protected:
  // Returns the file after a start that continues from `last_step` and writes one more record, "next".
  std::string Continue(const std::string& before, int64_t last_step) {
    std::filesystem::remove(aside_);
    WriteText(path_, before);
    return ContinueFile(last_step);
  }
  std::string ContinueFile(int64_t last_step) {
    Notes notes;
    auto sink = JsonlSink::Continue(path_, {.last = last_step, .tokens_each = 256}, notes);
    EXPECT_TRUE(sink.ok()) << sink.status();
    proto::TelemetryRecord next;
    next.set_step(last_step + 1);
    EXPECT_TRUE((*sink)->Write(next).ok());
    said_ = absl::StrJoin(notes.Take(), "\n");
    std::string text = ReadText(path_);
    const std::string line = absl::StrCat("{\"step\":", last_step + 1, "}\n");
    EXPECT_TRUE(text.ends_with(line)) << text;
    return text.substr(0, text.size() - line.size()) + "next";
  }
  // The old file is kept as a whole, and the new one has every sound record.
  void ExpectSetAside(const std::string& before, int64_t last_step, const std::string& kept, const std::string& said) {
    EXPECT_EQ(Continue(before, last_step), kept + "next");
    EXPECT_TRUE(ReadText(aside_) == before);
    EXPECT_THAT(said_, HasSubstr(said));
    EXPECT_THAT(said_, HasSubstr(aside_));
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "metrics.jsonl", aside_ = path_ + ".1", said_;
};

TEST_F(ContinuedRecords, OneDamagedDigitOfAStepErasesNothing) {
  const std::string whole = StepLines(0, 40), line = StepLine(5), rest = StepLines(0, 4), after = StepLines(6, 40);
  for (const char* step : {"95", "0", "2", "6", "9223372036854775807", "99999999999999999999", "-5", "x"}) {
    ExpectSetAside(absl::StrCat(rest, "{\"step\":", step, ",\"tokens\":1280}\n", after), 40, rest + after, "line 6 is");
  }
  // The last record is damaged and would pass for one that is made anew.
  ExpectSetAside(StepLines(0, 39) + "{\"step\":90,\"tokens\":10240}\n", 40, StepLines(0, 39), "line 41 is");
  // The first record is damaged.
  ExpectSetAside("{\"step\":70}\n" + StepLines(1, 40), 40, StepLines(1, 40), "line 1 is");
  // There are too few records to tell by them alone which one is damaged.
  const std::string wrong = "{\"step\":4,\"tokens\":768}\n";
  ExpectSetAside(wrong + StepLine(6), 9, StepLine(6), "line 1 is");
  ExpectSetAside(StepLine(2) + wrong, 9, StepLine(2), "line 2 is");
  ExpectSetAside(wrong, 9, "", "line 1 is");
  ExpectSetAside("{\"step\":0,\"tokens\":768}\n" + StepLine(6), 9, StepLine(6), "line 1 is");
  // The tokens are damaged.
  ExpectSetAside("{\"step\":3,\"tokens\":769}\n" + StepLine(6), 9, StepLine(6), "line 1 is");
  // A record that is made anew is damaged.
  ExpectSetAside(StepLines(0, 12) + "{\"st\n" + StepLines(14, 20), 10, StepLines(0, 10), "line 14 is");
}

TEST_F(ContinuedRecords, WhatIsNotUnderstoodIsKept) {
  const std::string long_line = "{\"step\":3,\"x\":\"" + std::string((16 << 20) + 1, 'x') + "\"}\n";
  ExpectSetAside(StepLines(0, 2) + long_line + StepLines(4, 6), 9, StepLines(0, 2) + StepLines(4, 6), "line 4 is");
  ExpectSetAside(StepLines(0, 2) + "\n\n" + StepLines(3, 4), 9, StepLines(0, 4), "2 lines are damaged");
  // Two starts wrote at the same time.
  ExpectSetAside(StepLines(0, 9) + StepLines(6, 12), 20, StepLines(0, 12), "out of order");
  // The end of the file is not the beginning of a record.
  ExpectSetAside(StepLines(0, 3) + "nonsense", 9, StepLines(0, 3), "line 5 is");
  ExpectSetAside(StepLines(0, 3) + "{\"step\":4}x", 9, StepLines(0, 3), "line 5 is");
}

TEST_F(ContinuedRecords, WhatACrashBreaksOffIsCut) {
  const std::string whole = StepLines(0, 5), last = StepLine(6), zeros(64, '\0');
  for (size_t bytes = 1; bytes + 1 < last.size(); ++bytes) {
    EXPECT_EQ(Continue(whole + last.substr(0, bytes), 6), whole + "next");
    EXPECT_EQ(Continue(whole + last.substr(0, bytes) + zeros, 6), whole + "next");
    EXPECT_THAT(said_, IsEmpty());
  }
  EXPECT_EQ(Continue(whole + zeros, 6), whole + "next");
  // The newline became zeros.
  EXPECT_EQ(Continue(whole + last.substr(0, last.size() - 1) + zeros, 6), whole + last + "next");
  // Only the newline is missing.
  EXPECT_EQ(Continue(whole + last.substr(0, last.size() - 1), 6), whole + last + "next");
  EXPECT_EQ(Continue(whole + last.substr(0, last.size() - 1), 5), whole + "next");
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(aside_));
}

// The new file can be read and written at the next start, though the old one could not.
TEST_F(ContinuedRecords, AModeThatForbidsReadingDoesNotReturn) {
  for (const mode_t mode : {0000, 0200, 0400}) {
    ExpectSetAside("{\"step\":70}\n" + StepLines(1, 5), 5, StepLines(1, 5), "line 1 is");
    std::filesystem::remove(aside_);
    WriteText(path_, "{\"step\":70}\n" + StepLines(1, 5));
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    // A user other than root can't read the records at all. They are kept.
    ContinueFile(5);
    struct stat status {};
    ASSERT_EQ(stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, mode | 0600);
    EXPECT_TRUE(std::filesystem::exists(aside_));
  }
}

TEST_F(ContinuedRecords, AFileThatCanNotBeReadIsKept) {
  // A folder or a pipe has the name.
  std::filesystem::create_directory(path_);
  EXPECT_EQ(ContinueFile(3), "next");
  EXPECT_TRUE(std::filesystem::is_directory(aside_));
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(ContinueFile(3), "next");
  EXPECT_TRUE(std::filesystem::is_fifo(path_ + ".2"));
  EXPECT_THAT(said_, HasSubstr("it is no regular file; all of it is in " + path_ + ".2 now"));
}

TEST_F(ContinuedRecords, LinksStay) {
  std::filesystem::create_directory(folder_ / "there");
  std::filesystem::create_symlink("there/metrics", path_);
  EXPECT_TRUE(JsonlSink::Create(path_).ok());
  WriteText(folder_ / "there/metrics", StepLines(0, 2) + "?\n" + StepLines(3, 4));
  EXPECT_EQ(ContinueFile(4), StepLines(0, 4) + "next");
  EXPECT_TRUE(std::filesystem::is_symlink(path_));
  EXPECT_EQ(ReadText(folder_ / "there/metrics.1"), StepLines(0, 2) + "?\n" + StepLines(3, 4));
}

TEST(EventFiles, ComeAfterAllOthersWhateverTheClocksWere) {
  std::string latest;
  for (const int64_t now : {int64_t{1'800'000'000}, int64_t{1'800'000'000}, int64_t{1'700'000'000},
                            int64_t{9'999'999'999}, int64_t{0}, int64_t{-5}, int64_t{20'000'000'000}, int64_t{1},
                            std::numeric_limits<int64_t>::max(), int64_t{1'800'000'000}}) {
    const std::string name = EventFileName(latest, now);
    EXPECT_GT(name, latest);
    EXPECT_THAT(name, HasSubstr("tfevents"));
    latest = name;
  }
  // Files of another machine in the same second, and of another program.
  for (const char* other : {"events.out.tfevents.1800000000.zzz.99999.07", "events.out.tfevents.later",
                            "events.out.tfevents.9999999999.z.1", "zz.tfevents"}) {
    EXPECT_GT(EventFileName(other, 1'800'000'000), other);
  }
  EXPECT_TRUE(EventFileName("events.out.tfevents.1700000000.a.1", 1'800'000'000)
                  .starts_with("events.out.tfevents.1800000000."));
}

TEST(TextfileSink, FollowsLinksAndLeavesDevicesAlone) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.prom", there = folder / "there/isthmus.prom";
  std::filesystem::create_directory(folder / "there");
  std::filesystem::create_symlink(there, path);
  proto::TelemetryRecord record;
  record.set_step(7);
  {
    TextfileSink sink(path);
    ASSERT_TRUE(sink.Write(record).ok());
    ASSERT_EQ(chmod(there.c_str(), 0640), 0);
    ASSERT_TRUE(sink.Finish().ok());
  }
  EXPECT_TRUE(std::filesystem::is_symlink(path));
  EXPECT_THAT(ReadText(there), HasSubstr("isthmus_steps_total 7\n"));
  EXPECT_EQ(std::filesystem::status(there).permissions(), static_cast<std::filesystem::perms>(0640));
  std::filesystem::remove(there);
  ASSERT_EQ(mkfifo(there.c_str(), 0600), 0);
  EXPECT_FALSE(TextfileSink(path).Write(record).ok());
  EXPECT_TRUE(std::filesystem::is_fifo(there));
}

TEST(TextfileSink, IsNotHeldUpByWhatHasItsTemporaryName) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.prom", partial = path + ".partial", other = folder / "other";
  proto::TelemetryRecord record;
  record.set_step(7);
  ASSERT_EQ(mkfifo(partial.c_str(), 0600), 0);
  EXPECT_TRUE(TextfileSink(path).Write(record).ok());
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
  EXPECT_THAT(ReadText(path), HasSubstr("isthmus_steps_total 7\n"));
  WriteText(other, "other");
  std::filesystem::create_symlink(other, partial);
  EXPECT_TRUE(TextfileSink(path).Write(record).ok());
  EXPECT_EQ(ReadText(other), "other");
  std::filesystem::create_directory(partial);
  EXPECT_FALSE(TextfileSink(path).Write(record).ok());
}

// Containers mount a single file, which can't be replaced.
TEST(TextfileSink, WritesAMountedFileInPlace) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.prom", outside = folder / "outside";
  WriteText(path, "");
  WriteText(outside, std::string(100'000, 'x'));
  if (geteuid() != 0 || mount(outside.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    GTEST_SKIP() << "needs root and the right to mount a file";
  }
  const absl::Cleanup unmount = [&] { umount2(path.c_str(), MNT_DETACH); };
  proto::TelemetryRecord record;
  record.set_step(7);
  TextfileSink sink(path);
  EXPECT_TRUE(sink.Write(record).ok());
  EXPECT_THAT(ReadText(outside), HasSubstr("isthmus_steps_total 7\n"));
  EXPECT_TRUE(sink.Finish().ok());
  EXPECT_THAT(ReadText(outside), AllOf(HasSubstr("isthmus_run_ended 1\n"), Not(HasSubstr("x\n"))));
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

}  // namespace
}  // namespace isthmus
