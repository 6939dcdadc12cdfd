// The wish of a scheduler or a user that the program should save and end: SIGTERM, SIGUSR1, SIGINT.
#ifndef ISTHMUS_RUNTIME_STOP_SIGNALS_H_
#define ISTHMUS_RUNTIME_STOP_SIGNALS_H_

#include <string>

namespace isthmus {

// Takes the signals over for as long as it lives. The first one is remembered; from then on each has its default effect
// again, so that a second one ends the process at once. One object at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The signal that came, 0 for none.
  int received() const;
};

// "SIGTERM".
std::string SignalName(int signal);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STOP_SIGNALS_H_
