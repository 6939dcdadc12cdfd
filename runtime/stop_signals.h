// The wish of a scheduler or a user that the program should save and end: SIGTERM, SIGUSR1, SIGINT, SIGHUP.
#ifndef ISTHMUS_RUNTIME_STOP_SIGNALS_H_
#define ISTHMUS_RUNTIME_STOP_SIGNALS_H_

#include <semaphore.h>

#include <csignal>
#include <string>
#include <thread>

namespace isthmus {

// Takes the signals over for as long as it lives. The first one is remembered; from then on each has its default effect
// again, so that a second one ends the process at once; but SIGHUP, of a terminal that is closed, is ignored then. It
// is left alone where it is ignored already (nohup). One object at a time.
//
// No signal interrupts a thread that computes: the handler runs on a thread of its own, and the thread that makes the
// object, and every thread that it starts later, has the signals blocked. oneDNN's generated kernels (2.6: dnnl_sgemm)
// keep data below the stack pointer, where a handler's frame overwrites them: products were wrong and the heap was
// damaged. So make the object before the first operator runs.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The signal that came, 0 for none.
  int received() const { return latest(); }
  // The same, of the object that lives.
  static int latest();

 private:
  const bool hangs_up_;  // SIGHUP was not ignored
  sigset_t blocked_before_;
  // Thread sanitizer runs a handler late, or never, on a thread whose wait it doesn't see, as it does not see those of
  // Abseil and of the C++ library.
  sem_t end_;
  std::thread receiver_;
};

// "SIGTERM".
std::string SignalName(int signal);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STOP_SIGNALS_H_
