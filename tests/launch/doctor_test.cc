#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/backends.h"
#include "runtime/device.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

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

}  // namespace
}  // namespace isthmus::testing
