// Tests what happens to whatever has the name that is written: links, pipes, devices, modes, names in other folders.
#include "runtime/durable_file.h"

#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <string>
#include <utility>

#include "runtime/stop_signals.h"
#include "tests/support/as_nobody.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using testing::AsNobody;
using ::testing::HasSubstr;
using testing::ReadText;
using testing::TemporaryFolder;
using testing::WriteText;

constexpr FileOwner kOwners[] = {FileOwner::kProgram, FileOwner::kUser};

struct stat StatusOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(lstat(path.c_str(), &status), 0) << path;
  return status;
}

int EntriesOf(const std::string& folder) {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

bool HasText(const absl::Status& status, const std::string& text) {
  return status.message().find(text) != absl::string_view::npos;
}

// Reads all that comes out of a pipe, or at least its first `bytes`.
std::future<std::string> ReadPipe(const std::string& path, size_t bytes = static_cast<size_t>(-1)) {
  return std::async(std::launch::async, [=] {
    const int pipe = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    std::string text;
    char block[4096];
    for (ssize_t got = 1; got > 0 && text.size() < bytes;) {
      got = read(pipe, block, sizeof(block));
      if (got > 0) text.append(block, static_cast<size_t>(got));
    }
    close(pipe);
    return text;
  });
}

TEST(OutputPath, LinksStayAndWhatTheyLeadToIsWritten) {
  for (const FileOwner owner : kOwners) {
    const TemporaryFolder folder;
    std::filesystem::create_directories(folder / "there/deep");
    WriteText(folder / "there/file", "old");
    std::filesystem::create_symlink(folder / "there/file", folder / "absolute");
    std::filesystem::create_symlink("there/file", folder / "relative");
    std::filesystem::create_symlink("../relative", folder / "there/link");
    std::filesystem::create_symlink("there/link", folder / "of-a-link");
    std::filesystem::create_symlink("there/deep/new", folder / "dangling");
    std::filesystem::create_directory_symlink("there/deep", folder / "folder");
    for (const char* link : {"absolute", "relative", "of-a-link"}) {
      EXPECT_TRUE(WriteDurably(folder / link, link, owner).ok());
      EXPECT_EQ(ReadText(folder / "there/file"), link);
      EXPECT_TRUE(std::filesystem::is_symlink(folder / link));
    }
    EXPECT_TRUE(WriteDurably(folder / "dangling", "made", owner).ok());
    EXPECT_TRUE(std::filesystem::is_symlink(folder / "dangling"));
    EXPECT_EQ(ReadText(folder / "there/deep/new"), "made");
    EXPECT_TRUE(WriteDurably(folder / "folder/other", "x", owner).ok());
    EXPECT_EQ(EntriesOf(folder.path()), 6);
    EXPECT_EQ(EntriesOf(folder / "there/deep"), 2);
  }
}

TEST(OutputPath, WhatCanNotBeWrittenIsRefusedBeforeAnyWork) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& path, const char* why) {
    const absl::Status checked = CheckOutput(path);
    EXPECT_THAT(std::string(checked.message()), HasSubstr(why)) << path;
    EXPECT_EQ(WriteDurably(path, "x", FileOwner::kUser), checked);
    EXPECT_EQ(WriteDurably(path, "x"), checked);
  };
  std::filesystem::create_symlink("b", folder / "a");
  std::filesystem::create_symlink("a", folder / "b");
  refused(folder / "a", "Too many levels of symbolic links");
  std::filesystem::create_symlink("gone/file", folder / "nowhere");
  refused(folder / "nowhere", "/gone: No such file");
  std::filesystem::create_directory_symlink(folder.path(), folder / "home");
  refused(folder / "home", "is a folder");
  refused(folder.path(), "is a folder");
  refused(folder / "new/", "is the name of a folder");
  refused("", "an empty path");
  const int listening = socket(AF_UNIX, SOCK_STREAM, 0);
  const absl::Cleanup close_socket = [listening] { close(listening); };
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::strncpy(address.sun_path, (folder / "socket").c_str(), sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  refused(folder / "socket", "is a socket");
  EXPECT_TRUE(CheckOutput(folder / "new").ok());
  EXPECT_EQ(EntriesOf(folder.path()), 5);
}

TEST(OutputPath, ModesStayAndOtherHardLinksSeeWhatAUserWrites) {
  const TemporaryFolder folder;
  WriteText(folder / "file", "old");
  ASSERT_EQ(chmod((folder / "file").c_str(), 0640), 0);
  std::filesystem::create_hard_link(folder / "file", folder / "other");
  EXPECT_TRUE(WriteDurably(folder / "file", "by the user", FileOwner::kUser).ok());
  EXPECT_EQ(ReadText(folder / "other"), "by the user");
  EXPECT_EQ(StatusOf(folder / "file").st_nlink, 2u);
  EXPECT_TRUE(WriteDurably(folder / "file", "b", FileOwner::kUser).ok());
  EXPECT_EQ(ReadText(folder / "other"), "b");
  // The copy of a run folder keeps its contents.
  EXPECT_TRUE(WriteDurably(folder / "file", "by the program").ok());
  EXPECT_EQ(ReadText(folder / "other"), "b");
  EXPECT_EQ(ReadText(folder / "file"), "by the program");
  EXPECT_EQ(StatusOf(folder / "file").st_mode & 07777, 0640u);
  EXPECT_EQ(EntriesOf(folder.path()), 2);
  const std::string long_name = folder / std::string(255, 'n');
  EXPECT_TRUE(WriteDurably(long_name, "x", FileOwner::kUser).ok());
  EXPECT_EQ(ReadText(long_name), "x");
}

TEST(OutputPath, PipesAreWrittenTo) {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe", text(1 << 20, 'x');
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::signal(SIGPIPE, SIG_IGN);  // as in the program
  for (const bool checked : {false, true}) {
    auto read = ReadPipe(pipe);
    // CheckOutput alone leaves the reader waiting.
    if (checked) {
      EXPECT_TRUE(CheckOutput(pipe).ok());
    }
    EXPECT_TRUE(WriteDurably(pipe, text, FileOwner::kUser).ok());
    EXPECT_TRUE(read.get() == text);
  }
  EXPECT_TRUE(S_ISFIFO(StatusOf(pipe).st_mode));
  auto gone = ReadPipe(pipe, 1);
  EXPECT_THAT(std::string(WriteDurably(pipe, text, FileOwner::kUser).message()), HasSubstr("Broken pipe"));
  gone.get();
  EXPECT_THAT(std::string(WriteDurably(pipe, "x").message()), HasSubstr("is a pipe that nobody reads"));
  EXPECT_EQ(EntriesOf(folder.path()), 1);
}

TEST(OutputPath, DevicesAreWrittenTo) {
  const TemporaryFolder folder;
  const std::string null = folder / "null", full = folder / "full", disk = folder / "disk";
  const auto make = [](const std::string& path, mode_t type, unsigned major, unsigned minor) {
    return mknod(path.c_str(), type | 0600, makedev(major, minor)) == 0;
  };
  if (!make(null, S_IFCHR, 1, 3) || !make(full, S_IFCHR, 1, 7) || !make(disk, S_IFBLK, 7, 250)) {
    GTEST_SKIP() << "needs root and the right to make devices";
  }
  if (const int opened = open(null.c_str(), O_WRONLY); opened < 0 || close(opened) != 0) {
    GTEST_SKIP() << "devices can't be opened here";
  }
  for (const FileOwner owner : kOwners) {
    EXPECT_TRUE(WriteDurably(null, "text", owner).ok());
    EXPECT_TRUE(absl::IsResourceExhausted(WriteDurably(full, "text", owner)));
    EXPECT_THAT(std::string(WriteDurably(disk, "text", owner).message()), HasSubstr("is a block device"));
  }
  EXPECT_TRUE(S_ISCHR(StatusOf(null).st_mode));
  EXPECT_TRUE(S_ISCHR(StatusOf(full).st_mode));
  EXPECT_TRUE(S_ISBLK(StatusOf(disk).st_mode));
  EXPECT_EQ(EntriesOf(folder.path()), 3);
}

TEST(OutputPath, AnOpenFileGoesOnWhereItIs) {
  const TemporaryFolder folder;
  const int file = open((folder / "file").c_str(), O_WRONLY | O_CREAT, 0600);
  const int readable = open((folder / "file").c_str(), O_RDONLY);
  const absl::Cleanup close_files = [=] {
    close(file);
    close(readable);
  };
  std::filesystem::create_symlink(absl::StrCat("/dev/fd/", file), folder / "link");
  ASSERT_EQ(write(file, "1", 1), 1);
  EXPECT_TRUE(WriteDurably(absl::StrCat("/proc/self/fd/", file), "2", FileOwner::kUser).ok());
  EXPECT_TRUE(WriteDurably(folder / "link", "3", FileOwner::kUser).ok());
  ASSERT_EQ(write(file, "4", 1), 1);
  EXPECT_EQ(ReadText(folder / "file"), "1234");
  EXPECT_EQ(EntriesOf(folder.path()), 2);
  EXPECT_FALSE(CheckOutput(absl::StrCat("/dev/fd/", readable)).ok());
  EXPECT_FALSE(CheckOutput("/dev/fd/987654").ok());
}

TEST(OutputPath, AFileThatCanNotBeReplacedIsWrittenInPlace) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  const TemporaryFolder folder;
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  for (const mode_t mode : {0755, 01777}) {
    const std::string home = folder / absl::StrCat("mode-", mode), open_file = home + "/open", shut = home + "/shut";
    std::filesystem::create_directory(home);
    ASSERT_EQ(chmod(home.c_str(), mode), 0);
    WriteText(open_file, "what was there before");
    WriteText(shut, "old");
    ASSERT_EQ(chmod(open_file.c_str(), 0666), 0);
    const auto before = StatusOf(open_file);
    for (const FileOwner owner : kOwners) {
      EXPECT_TRUE(AsNobody([&] { return WriteDurably(open_file, "new", owner).ok(); })) << mode;
      EXPECT_EQ(ReadText(open_file), "new");
      EXPECT_EQ(StatusOf(open_file).st_ino, before.st_ino);
    }
    if (mode == 0755) {
      EXPECT_TRUE(AsNobody([&] { return absl::IsPermissionDenied(CheckOutput(shut)); }));
      EXPECT_TRUE(AsNobody([&] { return absl::IsPermissionDenied(CheckOutput(home + "/new")); }));
    }
    EXPECT_EQ(ReadText(shut), "old");
    EXPECT_EQ(EntriesOf(home), 2);
  }
  // Containers mount a single file like this.
  WriteText(folder / "outside", "old");
  WriteText(folder / "inside", "");
  if (mount((folder / "outside").c_str(), (folder / "inside").c_str(), nullptr, MS_BIND, nullptr) != 0) return;
  const absl::Cleanup unmount = [&] { umount2((folder / "inside").c_str(), MNT_DETACH); };
  EXPECT_TRUE(WriteDurably(folder / "inside", "new", FileOwner::kUser).ok());
  EXPECT_EQ(ReadText(folder / "outside"), "new");
}

// Limits the size of files that this process writes. A full disk fails in the same place.
void LimitFiles(rlim_t bytes) {
  std::signal(SIGXFSZ, SIG_IGN);  // as in the program
  const rlimit limit = {bytes, bytes};
  setrlimit(RLIMIT_FSIZE, &limit);
}

TEST(OutputPath, AFileThatIsOverwrittenStaysWhereTheNewOneHasNoRoom) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  const TemporaryFolder folder;
  const std::string shut = folder / "shut", open_file = shut + "/open", temporary = folder / "tmp";
  for (const auto& [path, mode] : {std::pair{folder.path(), 0755}, {shut, 0755}, {temporary, 01777}}) {
    std::filesystem::create_directories(path);
    ASSERT_EQ(chmod(path.c_str(), static_cast<mode_t>(mode)), 0);
  }
  const std::string old(300, 'o'), text(1000, 'n');
  for (const FileOwner owner : kOwners) {
    WriteText(open_file, old);
    ASSERT_EQ(chmod(open_file.c_str(), 0666), 0);
    const auto at_limit = [&](bool complete) {
      setenv("TMPDIR", temporary.c_str(), 1);
      if (!complete) LimitFiles(200);
      const auto file = DurableFile::Create(open_file, owner);
      if (!file.ok()) return file.status();
      if (absl::Status status = (*file)->Append(text.data(), 1000); !status.ok()) return status;
      LimitFiles(200);
      return (*file)->Commit();
    };
    EXPECT_TRUE(AsNobody([&] {
      const absl::Status status = at_limit(/*complete=*/false);
      return absl::IsResourceExhausted(status) && HasText(status, temporary) && !HasText(status, "damaged");
    }));
    EXPECT_EQ(ReadText(open_file), old);
    EXPECT_EQ(EntriesOf(temporary), 0);
    // The limit comes in the middle of overwriting.
    EXPECT_TRUE(AsNobody([&] {
      const absl::Status status = at_limit(/*complete=*/true);
      return HasText(status, "which is damaged now (" + temporary + "/isthmus.") && HasText(status, "has all of it");
    }));
    EXPECT_EQ(ReadText(open_file), text.substr(0, 200) + old.substr(200));
    ASSERT_EQ(EntriesOf(temporary), 1);
    const auto kept = std::filesystem::directory_iterator(temporary)->path();
    EXPECT_EQ(ReadText(kept), text);
    std::filesystem::remove(kept);
  }
  // Without a folder for temporary files memory serves.
  EXPECT_TRUE(AsNobody([&] {
    setenv("TMPDIR", (folder / "none").c_str(), 1);
    return WriteDurably(open_file, "new", FileOwner::kUser).ok();
  }));
  EXPECT_EQ(ReadText(open_file), "new");
}

TEST(OutputPath, AFullDiskLeavesAMountedFileAsItWas) {
  const TemporaryFolder folder;
  const std::string disk = folder / "disk", inside = folder / "inside", old(20'000, 'o');
  std::filesystem::create_directory(disk);
  if (mount("none", disk.c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "needs the right to mount";
  const absl::Cleanup unmount_disk = [&] { umount2(disk.c_str(), MNT_DETACH); };
  WriteText(disk + "/file", old);
  WriteText(inside, "");
  ASSERT_EQ(mount((disk + "/file").c_str(), inside.c_str(), nullptr, MS_BIND, nullptr), 0);
  const absl::Cleanup unmount_file = [&] { umount2(inside.c_str(), MNT_DETACH); };
  for (const FileOwner owner : kOwners) {
    const absl::Status status = WriteDurably(inside, std::string(100'000, 'n'), owner);
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_FALSE(HasText(status, "damaged")) << status;
    EXPECT_TRUE(ReadText(disk + "/file") == old);
    EXPECT_EQ(EntriesOf(folder.path()), owner == FileOwner::kProgram ? 2 : 3) << "a user's file is kept: " << status;
  }
}

TEST(ReadFile, WaitsForThoseWhoWriteToAPipe) {
  const testing::TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  auto text = std::async(std::launch::async, [&] { return ReadFile(pipe); });
  const int writer = open(pipe.c_str(), O_WRONLY);  // waits for the reader
  ASSERT_EQ(write(writer, "ab", 2), 2);
  ASSERT_EQ(write(writer, "c", 1), 1);
  close(writer);
  EXPECT_EQ(*text.get(), "abc");
}

TEST(ReadFile, ASignalEndsTheWaitForAPipe) {
  const testing::TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const StopSignals signals;
  ASSERT_EQ(kill(getpid(), SIGTERM), 0);
  const auto text = ReadFile(pipe);
  EXPECT_TRUE(absl::IsCancelled(text.status())) << text.status();
  EXPECT_TRUE(HasText(text.status(), "stopped by SIGTERM while nothing was written to it")) << text.status();
}

}  // namespace
}  // namespace isthmus
