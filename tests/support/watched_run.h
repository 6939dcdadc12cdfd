// A run with faults that a test watches by the heartbeats of its ranks, and whose deadlines pass when the test says so.
#ifndef ISTHMUS_TESTS_SUPPORT_WATCHED_RUN_H_
#define ISTHMUS_TESTS_SUPPORT_WATCHED_RUN_H_

#include <cstdint>
#include <functional>
#include <future>
#include <optional>
#include <string>

#include "launch/watch/heartbeat.h"
#include "tests/support/program.h"

namespace isthmus::testing {

class WatchedRun {
 public:
  // Starts `isthmus arguments`, whose run has this folder. The arguments give the run deadlines that no machine is too
  // slow for. Only one such run can be under way.
  WatchedRun(const std::string& folder, const std::string& faults, const std::string& arguments, int ranks);
  // Waits for the end.
  ~WatchedRun();
  WatchedRun(const WatchedRun&) = delete;
  WatchedRun& operator=(const WatchedRun&) = delete;

  // Waits until a rank's heartbeat is like that. A run that ends before is a failure of the test.
  Heartbeat Await(int rank, const std::function<bool(const Heartbeat&)>& is_wanted);
  // Waits until the rank has waited for others, in this phase of the step, for so many seconds.
  Heartbeat AwaitWait(int rank, int64_t step, const std::string& phase, double seconds = 0);
  // Makes deadlines of collectives pass that much faster than the clock from now on. 1 means as the clock does.
  void SetHaste(double factor) const;
  // Waits a moment for the end.
  bool Ended() const;
  // Waits for the end.
  const ProgramResult& Result();

 private:
  std::string folder_, haste_;
  std::future<void> end_;
  ProgramResult result_;
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_WATCHED_RUN_H_
