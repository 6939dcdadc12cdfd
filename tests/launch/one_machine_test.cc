// Ranks of one machine need no network but loopback, and do not complain if there is no other.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Returns a shell command that runs `command` where loopback is the only network. `command` has no single quotes.
std::string WithLoopbackOnly(const TemporaryFolder& folder, const std::string& command) {
  constexpr const char* kUp = R"(import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 0x49))  # SIOCSIFFLAGS: up, loopback, running
)";
  WriteText(folder / "up.py", kUp);
  WriteText(folder / "command", absl::StrCat("python3 ", folder / "up.py", " || exit 99\n", command, "\n"));
  return absl::StrCat("unshare --net bash ", folder / "command");
}

// Open MPI 5 complained or not, depending on the machine's network. So the test runs with this machine's network, and
// with loopback alone.
TEST(OneMachine, RanksSayNothingOfNetworks) {
  const TemporaryFolder folder;
  const bool can_isolate = RunShell(WithLoopbackOnly(folder, "exit 0")).exit_status == 0;
  const TinyProject project;
  int runs = 0;
  const auto config = [&] {
    return absl::StrCat(" --config ", project.WriteConfig(absl::StrCat("run-", ++runs)), " --set schedule.steps=3");
  };
  for (const bool isolated : {false, true}) {
    if (isolated && !can_isolate) continue;  // by unshare --net
    const std::string mpirun =
        absl::StrCat("export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\n", LauncherPath(),
                     " --oversubscribe --bind-to none -n 2 ", ProgramPath(), " train", config());
    const std::string script =
        absl::StrCat(SourceFolder(), "/launch/mpirun/train --ranks-per-host 2 --program ", ProgramPath(), config());
    for (const std::string& start : {mpirun, script}) {
      const std::string command = "export OMP_NUM_THREADS=1\n" + start;
      const ProgramResult result = RunShell(isolated ? WithLoopbackOnly(folder, command) : command);
      EXPECT_EQ(result.exit_status, 0) << result.out;
      EXPECT_THAT(result.out, HasSubstr("trained 3 steps, 768 tokens, in "));
      EXPECT_THAT(result.out, Not(HasSubstr("interface")));
      EXPECT_THAT(result.out, Not(HasSubstr("btl")));
    }
  }
}

// A process that no launcher started needs no MPI: here MPI could not start.
TEST(OneMachine, ALoneRankStartsWithoutMpi) {
  const TinyProject project;
  const std::string train =
      absl::StrCat(ProgramPath(), " train --config ", project.WriteConfig("run"), " --set schedule.steps=3");
  const ProgramResult alone = RunShell("export OMPI_MCA_pml=none\n" + train);
  EXPECT_EQ(alone.exit_status, 0) << alone.out;
  EXPECT_THAT(alone.out, HasSubstr("trained 3 steps"));
  const ProgramResult launched =
      RunShell(absl::StrCat("export OMPI_MCA_pml=none\n", LauncherPath(), " --allow-run-as-root -n 1 ", train));
  EXPECT_NE(launched.exit_status, 0) << launched.out;
}

// Open MPI warns of a choice in the environment beside the one in a file, and says what both are.
TEST(OneMachine, AChoiceOfNetworksInAFileOfOpenMpiStays) {
  const TinyProject project;
  std::filesystem::create_directory(project / ".openmpi");
  WriteText(project / ".openmpi/mca-params.conf", "# of this user\n btl_tcp_if_exclude = docker0\n");
  const auto config = [&](const char* name) {
    return absl::StrCat(" --config ", project.WriteConfig(name), " --set schedule.steps=3");
  };
  const std::string mpirun =
      absl::StrCat(LauncherPath(), " --oversubscribe --bind-to none -n 2 ", ProgramPath(), " train", config("mpirun"));
  const std::string script = absl::StrCat(SourceFolder(), "/launch/mpirun/train --ranks-per-host 2 --program ",
                                          ProgramPath(), config("script"));
  for (const std::string& start : {mpirun, script}) {
    const ProgramResult result =
        RunShell(absl::StrCat("export OMPI_ALLOW_RUN_AS_ROOT=1 OMP_NUM_THREADS=1 ",
                              "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 HOME=", project.folder().path(), "\n", start));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    EXPECT_THAT(result.out, HasSubstr("trained 3 steps, 768 tokens, in "));
    EXPECT_THAT(result.out, Not(HasSubstr("btl_tcp_if")));
  }
}

}  // namespace
}  // namespace isthmus::testing
