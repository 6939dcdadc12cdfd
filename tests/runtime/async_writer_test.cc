// Text never waits for its reader. This tests the order, the losses, and the bounded end.
#include "runtime/async_writer.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>
#include <string>

#include "runtime/log.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Told(int64_t pieces) { return absl::StrCat("<", pieces, " lost>\n"); }

// A pipe of one page.
class SmallPipe {
 public:
  SmallPipe() {
    std::signal(SIGPIPE, SIG_IGN);  // as in the program
    EXPECT_EQ(pipe2(ends_.data(), O_CLOEXEC), 0);
    EXPECT_GT(fcntl(ends_[1], F_SETPIPE_SZ, 4096), 0);
  }
  ~SmallPipe() {
    CloseReader();
    close(ends_[1]);
  }
  int writer() const { return ends_[1]; }
  // Reads until `end` has come.
  std::string ReadUpTo(const std::string& end) const {
    std::string text;
    std::array<char, 4096> some{};
    while (text.find(end) == std::string::npos) {
      const ssize_t got = read(ends_[0], some.data(), some.size());
      if (got <= 0) break;
      text.append(some.data(), static_cast<size_t>(got));
    }
    return text;
  }
  void AwaitSome() const {
    pollfd some{.fd = ends_[0], .events = POLLIN, .revents = 0};
    poll(&some, 1, -1);
  }
  void CloseReader() {
    if (ends_[0] >= 0) close(ends_[0]);
    ends_[0] = -1;
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

TEST(AsyncWriter, KeepsTheOrder) {
  const SmallPipe pipe;
  AsyncWriter writer(pipe.writer(), AsyncWriter::Descriptor::kBorrowed, Told);
  std::string all;
  for (int i = 0; i < 2000; ++i) {
    writer.Write(absl::StrCat(i, "\n"));
    absl::StrAppend(&all, i, "\n");
  }
  writer.Write("end\n");
  EXPECT_EQ(pipe.ReadUpTo("end\n"), all + "end\n");
  EXPECT_TRUE(writer.Flush(absl::Hours(1)));
  EXPECT_EQ(writer.lost(), 0);
}

TEST(AsyncWriter, LosesTheOldestWhereNobodyReadsAndSaysHowMany) {
  const SmallPipe pipe;
  AsyncWriter writer(pipe.writer(), AsyncWriter::Descriptor::kBorrowed, Told, /*queue_bytes=*/1000);
  // The piece is larger than the pipe, so the thread is in the middle of it from here on.
  writer.Write(std::string(5000, 'x') + "\n");
  pipe.AwaitSome();
  for (int i = 100; i < 200; ++i) writer.Write(absl::StrCat("this is piece ", i, "\n"));  // 18 bytes each
  EXPECT_EQ(writer.lost(), 45);
  EXPECT_FALSE(writer.Flush(absl::Milliseconds(1)));
  writer.Write("end\n");
  const std::string text = pipe.ReadUpTo("end\n");
  EXPECT_THAT(text, StartsWith(std::string(5000, 'x') + "\n<45 lost>\nthis is piece 145\nthis is piece 146\n"));
  EXPECT_THAT(text, EndsWith("this is piece 199\nend\n"));
  EXPECT_TRUE(writer.Flush(absl::Hours(1)));
  EXPECT_EQ(writer.lost(), 45);
}

TEST(AsyncWriter, EndsThoughNobodyReads) {
  const SmallPipe pipe;
  {
    AsyncWriter writer(pipe.writer(), AsyncWriter::Descriptor::kBorrowed, Told);
    writer.Write(std::string(5000, 'x'));
    pipe.AwaitSome();
    writer.Write("more");
    EXPECT_FALSE(writer.Flush(absl::Milliseconds(1)));
    EXPECT_FALSE(writer.Flush(absl::Hours(1))) << "not a second time while nothing moves";
  }
}

TEST(AsyncWriter, AReaderThatIsGoneOrAFullDiskCostsThePieces) {
  SmallPipe pipe;
  pipe.CloseReader();
  AsyncWriter writer(pipe.writer(), AsyncWriter::Descriptor::kBorrowed, Told);
  for (const char* piece : {"one", "two", "three"}) writer.Write(piece);
  EXPECT_TRUE(writer.Flush(absl::Hours(1)));
  EXPECT_EQ(writer.lost(), 3);
  AsyncWriter full(open("/dev/full", O_WRONLY | O_CLOEXEC), AsyncWriter::Descriptor::kOwned, Told);
  full.Write("one");
  EXPECT_TRUE(full.Flush(absl::Hours(1)));
  EXPECT_EQ(full.lost(), 1);
}

TEST(AsyncWriter, WaitsForAPipeThatAnotherProgramMadeNonBlocking) {
  const SmallPipe pipe;
  ASSERT_EQ(fcntl(pipe.writer(), F_SETFL, O_NONBLOCK), 0);
  AsyncWriter writer(pipe.writer(), AsyncWriter::Descriptor::kBorrowed, Told);
  writer.Write(std::string(50'000, 'x') + "end\n");
  EXPECT_EQ(pipe.ReadUpTo("end\n").size(), 50'004u);
  EXPECT_EQ(writer.lost(), 0);
}

TEST(AsyncStream, GoesBadWhereSomethingWasLost) {
  const SmallPipe pipe;
  AsyncStream good(pipe.writer()), bad(-1);
  good << "loss " << 3.5 << std::endl;
  EXPECT_EQ(pipe.ReadUpTo("\n"), "loss 3.5\n");
  bad << "loss" << std::endl;
  for (AsyncStream* stream : {&good, &bad}) Settle(*stream);
  EXPECT_TRUE(good);
  EXPECT_FALSE(bad);
}

TEST(AsyncLog, SaysWhatItLostWhereItGoesOn) {
  const TemporaryFolder folder;
  ASSERT_EQ(RunShell("mkdir " + (folder / "log") + " && mkfifo " + (folder / "log/rank-0002.log")).exit_status, 0);
  EXPECT_FALSE(Log::Open(folder.path(), 2).ok()) << "nobody can ever read it";
  const int reader = open((folder / "log/rank-0002.log").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  auto log = Log::Open(folder.path(), 2);
  ASSERT_TRUE(log.ok()) << log.status();
  // The text is far longer than the pipe and the queue hold.
  const std::string line(1000, 'x');
  for (int i = 0; i < 2000; ++i) (*log)->Info(line);
  EXPECT_GT((*log)->dropped(), 1000);
  (*log)->Warning("the last one");
  std::string text;
  std::array<char, 65536> some{};
  while (text.find("the last one") == std::string::npos) {
    pollfd more{.fd = reader, .events = POLLIN, .revents = 0};
    poll(&more, 1, -1);
    const ssize_t got = read(reader, some.data(), some.size());
    if (got > 0) text.append(some.data(), static_cast<size_t>(got));
  }
  EXPECT_THAT(text, HasSubstr(" warning rank=2 "));
  EXPECT_THAT(text, HasSubstr(" lines are lost here: the log could not be written in time\n"));
  close(reader);
}

}  // namespace
}  // namespace isthmus::testing
