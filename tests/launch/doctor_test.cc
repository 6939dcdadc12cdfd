#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/backends.h"
#include "runtime/device.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Doctor, ShowsWhatIsThereAndTheRemedyForWhatIsNot) {
  const ProgramResult result = RunIsthmus("doctor");
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("MPI        Open MPI v"));
  EXPECT_THAT(result.out, HasSubstr("mpirun     /"));
  if (!kHasCuda) {
    EXPECT_THAT(result.out, HasSubstr("CUDA       missing: this program was built for the CPU"));
  } else if (CudaDeviceCount().ok()) {
    EXPECT_THAT(result.out, HasSubstr("GPU 0      "));
  } else {
    EXPECT_THAT(result.out, HasSubstr("GPUs       missing: no CUDA device"));
    EXPECT_THAT(result.out, HasSubstr("driver     missing: no NVIDIA driver; install"));
  }
}

TEST(Doctor, FindsNoLauncherInAnEmptyPath) {
  const ProgramResult result = RunShell("PATH=/nowhere " + ProgramPath() + " doctor");
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("mpirun     missing: install openmpi-bin"));
  EXPECT_THAT(result.out, HasSubstr("srun       missing: only needed where Slurm starts the job"));
}

// The library costs every process 0.2 s and 100 MB, so only GPUs' products and `doctor` load it.
TEST(Doctor, LoadsCublasLtWhichOtherCommandsDoNot) {
  if (!kHasCuda) GTEST_SKIP() << "this build has no CUDA";
  const std::string traced = "LD_DEBUG=files " + ProgramPath();
  EXPECT_THAT(RunShell(traced + " --help 2>&1").out, Not(HasSubstr("cublasLt")));
  const ProgramResult doctor = RunShell(traced + " doctor 2>&1");
  EXPECT_THAT(doctor.out, HasSubstr("libcublasLt.so"));
  EXPECT_THAT(doctor.out, ContainsRegex("cuBLASLt   [0-9]+\\.[0-9]"));
}

TEST(Doctor, SaysThatCublasLtIsMissingIfItCannotBeLoaded) {
  if (!kHasCuda) GTEST_SKIP() << "this build has no CUDA";
  const TemporaryFolder folder;
  const std::string command =
      absl::StrCat("for n in 12 13 14; do echo broken > ", folder / "libcublasLt.so.", "$n; done; ",
                   "LD_LIBRARY_PATH=", folder / "", " ", ProgramPath(), " doctor");
  const ProgramResult doctor = RunShell(command);
  EXPECT_EQ(doctor.exit_status, 0) << doctor.out;
  EXPECT_THAT(doctor.out, HasSubstr("cuBLASLt   missing: it comes with the CUDA Toolkit"));
}

}  // namespace
}  // namespace isthmus::testing
