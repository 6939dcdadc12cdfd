// The first signal is a wish, the second is the end.
#include "runtime/stop_signals.h"

#include <gtest/gtest.h>

#include <csignal>

namespace isthmus::testing {
namespace {

TEST(StopSignals, TheFirstOneIsRemembered) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    const StopSignals signals;
    EXPECT_EQ(signals.received(), 0);
    std::raise(signal);
    EXPECT_EQ(signals.received(), signal);
  }
}

TEST(StopSignalsDeathTest, TheSecondOneEndsTheProcess) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        const StopSignals signals;
        std::raise(SIGUSR1);
        std::raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace isthmus::testing
