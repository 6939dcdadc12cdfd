#include "runtime/stop_signals.h"

#include <absl/strings/str_cat.h>

#include <atomic>
#include <csignal>
#include <ctime>

namespace isthmus {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT};

// A handler's data has to be here: a signal comes to the process, not to an object.
std::atomic<int> received_signal = 0;
std::atomic<bool> ignores_later = false;
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// It is called by the handler and by IgnoreLater, perhaps at the same time.
void SetLaterEffect() {
  bool ignored = false;
  do {
    ignored = ignores_later;
    for (const int each : kSignals) std::signal(each, ignored ? SIG_IGN : SIG_DFL);
  } while (ignored != ignores_later);
}

void Remember(int signal) {
  received_signal = signal;
  SetLaterEffect();
  // A terminal that is closed may say so twice, by the shell and by the kernel. That is no wish to end at once.
  std::signal(SIGHUP, SIG_IGN);
}

bool IsIgnored(int signal) {
  struct sigaction now {};
  sigaction(signal, nullptr, &now);
  return now.sa_handler == SIG_IGN;
}

}  // namespace

StopSignals::StopSignals() : hangs_up_(!IsIgnored(SIGHUP)) {
  received_signal = 0;
  ignores_later = false;
  sigset_t set;
  sigemptyset(&set);
  struct sigaction action {};
  action.sa_handler = Remember;
  action.sa_flags = SA_RESTART;
  for (const int each : kSignals) sigaddset(&set, each);
  if (hangs_up_) sigaddset(&set, SIGHUP);
  // A second signal waits until the handler has given back what signals do.
  action.sa_mask = set;
  for (const int each : kSignals) sigaction(each, &action, nullptr);
  if (hangs_up_) sigaction(SIGHUP, &action, nullptr);
  pthread_sigmask(SIG_BLOCK, &set, &blocked_before_);
  sem_init(&end_, /*shared=*/0, 0);
  receiver_ = std::thread([this, set] {
    // Thread sanitizer makes its room for a thread's signals in the first wait, and loses one that comes meanwhile. So
    // this wait, which does not last, is before signals are let in.
    constexpr timespec kPast{};
    bool ended = sem_timedwait(&end_, &kPast) == 0;
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    while (!ended) ended = sem_wait(&end_) == 0;  // a signal may end the wait
  });
}

StopSignals::~StopSignals() {
  sem_post(&end_);
  receiver_.join();
  sem_destroy(&end_);
  for (const int each : kSignals) std::signal(each, SIG_DFL);
  if (hangs_up_) std::signal(SIGHUP, SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &blocked_before_, nullptr);
  received_signal = 0;
}

int StopSignals::latest() { return received_signal; }

void StopSignals::IgnoreLater() const {
  ignores_later = true;
  if (received_signal != 0) SetLaterEffect();
}

std::string SignalName(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGINT:
      return "SIGINT";
    case SIGHUP:
      return "SIGHUP";
    default:
      return absl::StrCat("signal ", signal);
  }
}

}  // namespace isthmus
