// The wish of a scheduler or a user that the program should save and end: SIGTERM, SIGUSR1, SIGINT, SIGHUP.
#ifndef ISTHMUS_RUNTIME_STOP_SIGNALS_H_
#define ISTHMUS_RUNTIME_STOP_SIGNALS_H_

#include <semaphore.h>

#include <csignal>
#include <string>
#include <thread>

namespace isthmus {

// Takes the signals over for as long as it lives. It remembers the first one. From then on each signal has its default
// effect again, so that a second one ends the process at once (see IgnoreLater). SIGHUP, which a closed terminal sends,
// is ignored then instead. If SIGHUP is ignored already (nohup), it is left alone. There may be one object at a time.
//
// No signal interrupts a thread that computes. The handler runs on a thread of its own. The signals are blocked in the
// thread that makes the object and in every thread that it starts later. oneDNN's generated kernels (2.6: dnnl_sgemm)
// keep data below the stack pointer, where a handler's frame overwrites them. Products were then wrong and the heap was
// damaged. So make the object before the first operator runs.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The signal that came, 0 for none.
  int received() const { return latest(); }
  // Returns the same for the living object.
  static int latest();
  // From now on signals after the first one are ignored, too. A program whose signals come from several sides at once
  // needs this: from a sweep, its launcher and Slurm.
  void IgnoreLater() const;

 private:
  const bool hangs_up_;  // SIGHUP was not ignored
  sigset_t blocked_before_;
  // A semaphore serves because thread sanitizer sees waits on it. It runs a handler late, or never, on a thread whose
  // wait it doesn't see. It does not see the waits of Abseil and of the C++ library.
  sem_t end_;
  std::thread receiver_;
};

// Returns the name, such as "SIGTERM".
std::string SignalName(int signal);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STOP_SIGNALS_H_
