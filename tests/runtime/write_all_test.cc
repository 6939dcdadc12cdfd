#include "runtime/write_all.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <thread>

#include "tests/support/program.h"

namespace isthmus {
namespace {

TEST(WriteAll, WaitsForReadersOfAPipeThatDoesNotBlock) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  ASSERT_EQ(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
  const std::string text(1 << 20, 'x');
  Written written;
  std::thread writer([&] {
    written = WriteAll(ends[1], text);
    close(ends[1]);
  });
  size_t read_bytes = 0;
  std::array<char, 5000> some{};
  for (ssize_t got = 1; got > 0; read_bytes += static_cast<size_t>(got)) got = read(ends[0], some.data(), some.size());
  writer.join();
  close(ends[0]);
  EXPECT_EQ(written.bytes, 1 << 20);
  EXPECT_EQ(written.error, 0);
  EXPECT_EQ(read_bytes, text.size());
}

TEST(WriteAll, SaysHowFarItCameAndWhy) {
  const testing::TemporaryFolder folder;
  const int file = open((folder / "x").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  EXPECT_EQ(WriteAllAt(file, "abc", 2).bytes, 3);
  EXPECT_EQ(testing::ReadText(folder / "x"), std::string("\0\0abc", 5));
  EXPECT_EQ(WriteAll(file, "").error, 0);
  close(file);
  EXPECT_EQ(WriteAll(file, "abc").error, EBADF);
  EXPECT_EQ(WriteAllAt(file, "abc", 0).bytes, 0);
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  EXPECT_EQ(WriteAll(full, "abc").error, ENOSPC);
  close(full);
}

}  // namespace
}  // namespace isthmus
