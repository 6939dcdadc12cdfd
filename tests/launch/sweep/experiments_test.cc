// The experiments that the project comes with.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "launch/sweep/sweep_file.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

TEST(Experiments, HaveAPlanForEveryArm) {
  int experiments = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(SourceFolder() + "/launch/experiments")) {
    if (entry.path().extension() != ".textproto" || entry.path().parent_path().filename() == "experiments") continue;
    SCOPED_TRACE(entry.path().string());
    ++experiments;
    const auto sweep = sweep::LoadSweep(entry.path().string());
    ASSERT_TRUE(sweep.ok()) << sweep.status();
    EXPECT_FALSE(sweep->question().empty());
    EXPECT_GE(sweep->seeds_size(), 3);
    EXPECT_FALSE(sweep->tunings().empty());
    const bool large = entry.path().filename() == "gpu.textproto";
    const ProgramResult plan = RunIsthmus(
        absl::StrCat("sweep --plan --config ", entry.path().string(), large ? " --device h200 --world 8" : ""));
    EXPECT_EQ(plan.exit_status, 0) << plan.out;
    EXPECT_THAT(plan.out, HasSubstr(large ? " device hours; tunings are not extended" : " runs, and "));
  }
  EXPECT_GE(experiments, 14);
}

}  // namespace
}  // namespace isthmus::testing
