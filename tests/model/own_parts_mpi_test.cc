// ranks: 2 3
// The program's own heads and blocks pass the checks that every part must pass.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/part_checks.h"

namespace isthmus::testing {
namespace {

class OwnHeads : public ::testing::TestWithParam<std::string> {};

TEST_P(OwnHeads, WorkEverywhere) {
  TinyOptions options = PartOptions();
  options.head_kind = GetParam();
  options.tied = GetParam() == "tied";
  options.head_rank = GetParam() == "factorised" ? 9 : 0;
  CheckPart(options);
}

INSTANTIATE_TEST_SUITE_P(Each, OwnHeads, ::testing::Values("full", "tied", "factorised"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace isthmus::testing
