// The first signal is a wish, the second is the end, and neither interrupts a thread that computes.
#include "runtime/stop_signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <thread>

namespace isthmus::testing {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};

// Another thread takes the signal.
int WaitFor(const StopSignals& signals) {
  while (signals.received() == 0) std::this_thread::yield();
  return signals.received();
}

// Returns how many of the signals may interrupt the calling thread.
int Unblocked() {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  int unblocked = 0;
  for (const int signal : kSignals) unblocked += sigismember(&blocked, signal) == 0 ? 1 : 0;
  return unblocked;
}

TEST(StopSignals, TheFirstOneIsRemembered) {
  for (const int signal : kSignals) {
    const StopSignals signals;
    EXPECT_EQ(signals.received(), 0);
    kill(getpid(), signal);
    EXPECT_EQ(WaitFor(signals), signal);
  }
}

// The thread that takes it has perhaps not started yet. Thread sanitizer lost about one in a thousand.
TEST(StopSignals, OneThatComesAtOnceIsRememberedAsWell) {
  for (int i = 0; i < 1000; ++i) {
    const StopSignals signals;
    kill(getpid(), SIGUSR1);
    ASSERT_EQ(WaitFor(signals), SIGUSR1);
  }
}

TEST(StopSignals, WhatCameIsForgottenWithTheObject) {
  {
    const StopSignals signals;
    kill(getpid(), SIGTERM);
    EXPECT_EQ(WaitFor(signals), SIGTERM);
    EXPECT_EQ(StopSignals::latest(), SIGTERM);
  }
  EXPECT_EQ(StopSignals::latest(), 0);
}

TEST(StopSignals, NoneInterruptsTheThreadThatMadeTheObjectOrOneThatItStarts) {
  EXPECT_EQ(Unblocked(), 4);
  {
    const StopSignals signals;
    EXPECT_EQ(Unblocked(), 0);
    std::thread([] { EXPECT_EQ(Unblocked(), 0); }).join();
  }
  EXPECT_EQ(Unblocked(), 4);
}

// Tests may run under nohup themselves.
class StopSignalsHangUp : public ::testing::Test {
 protected:
  void SetUp() override { std::signal(SIGHUP, SIG_DFL); }
  void TearDown() override { std::signal(SIGHUP, SIG_DFL); }
};

TEST_F(StopSignalsHangUp, OfAClosedTerminalMayComeAgain) {
  const StopSignals signals;
  kill(getpid(), SIGHUP);
  EXPECT_EQ(WaitFor(signals), SIGHUP);
  kill(getpid(), SIGHUP);
  EXPECT_EQ(signals.received(), SIGHUP);
  EXPECT_EQ(SignalName(signals.received()), "SIGHUP");
}

TEST_F(StopSignalsHangUp, StaysIgnoredUnderNohup) {
  std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignals signals;
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGTERM);
    EXPECT_EQ(WaitFor(signals), SIGTERM);
  }
  EXPECT_EQ(std::signal(SIGHUP, SIG_DFL), SIG_IGN);
}

// Whichever comes first, the signal or the wish.
TEST(StopSignals, LaterOnesCanBeIgnored) {
  for (const bool before : {true, false}) {
    const StopSignals signals;
    if (before) signals.IgnoreLater();
    kill(getpid(), SIGUSR1);
    EXPECT_EQ(WaitFor(signals), SIGUSR1);
    if (!before) signals.IgnoreLater();
    for (const int signal : kSignals) {
      // The handler may not have gone through all signals yet.
      for (struct sigaction now{}; now.sa_handler != SIG_IGN;) sigaction(signal, nullptr, &now);
      kill(getpid(), signal);
    }
    EXPECT_EQ(signals.received(), SIGUSR1);
  }
}

// The wish ends with the object.
TEST(StopSignalsDeathTest, TheSecondOneEndsTheProcess) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        const StopSignals signals;
        kill(getpid(), SIGUSR1);
        WaitFor(signals);
        kill(getpid(), SIGTERM);
        for (;;) pause();
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace isthmus::testing
