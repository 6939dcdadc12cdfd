#include "runtime/stop_signals.h"

#include <absl/strings/str_cat.h>

#include <csignal>

namespace isthmus {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT};

// What a handler may touch has to be here: a signal comes to the process, not to an object.
volatile std::sig_atomic_t received_signal = 0;

void Remember(int signal) {
  received_signal = signal;
  for (const int each : kSignals) std::signal(each, SIG_DFL);
}

}  // namespace

StopSignals::StopSignals() {
  received_signal = 0;
  sigset_t set;
  sigemptyset(&set);
  struct sigaction action {};
  action.sa_handler = Remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int each : kSignals) {
    sigaddset(&set, each);
    sigaction(each, &action, nullptr);
  }
  pthread_sigmask(SIG_BLOCK, &set, &blocked_before_);
  receiver_ = std::thread([this, set] {
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    end_.WaitForNotification();
  });
}

StopSignals::~StopSignals() {
  end_.Notify();
  receiver_.join();
  for (const int each : kSignals) std::signal(each, SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &blocked_before_, nullptr);
}

int StopSignals::received() const { return received_signal; }

std::string SignalName(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGINT:
      return "SIGINT";
    default:
      return absl::StrCat("signal ", signal);
  }
}

}  // namespace isthmus
