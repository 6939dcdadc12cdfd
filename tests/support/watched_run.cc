#include "tests/support/watched_run.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

namespace isthmus::testing {

WatchedRun::WatchedRun(const std::string& folder, const std::string& faults, const std::string& arguments, int ranks)
    : folder_(folder), haste_(folder + ".haste") {
  setenv("ISTHMUS_FAULT_HASTE", haste_.c_str(), /*replace=*/1);
  end_ = std::async(std::launch::async,
                    [this, faults, arguments, ranks] { result_ = RunWithFaults(faults, arguments, ranks); });
}

WatchedRun::~WatchedRun() {
  end_.wait();
  unsetenv("ISTHMUS_FAULT_HASTE");
}

Heartbeat WatchedRun::Await(int rank, const std::function<bool(const Heartbeat&)>& is_wanted) {
  for (;;) {
    const auto beat = ReadHeartbeat(HeartbeatPath(folder_, rank));
    if (beat.ok() && is_wanted(*beat)) return *beat;
    if (Ended()) {
      ADD_FAILURE() << "rank " << rank << " was not seen as wanted; last: "
                    << (beat.ok() ? absl::StrCat("step ", beat->step, ", ", beat->phase) : beat.status().ToString());
      return {};
    }
  }
}

Heartbeat WatchedRun::AwaitWait(int rank, int64_t step, const std::string& phase, double seconds) {
  return Await(rank, [&](const Heartbeat& beat) {
    return beat.step == step && beat.phase == phase && beat.waiting.has_value() && beat.waiting->waited >= seconds;
  });
}

void WatchedRun::SetHaste(double factor) const {
  if (factor == 1) {
    std::filesystem::remove(haste_);
  } else {
    WriteText(haste_, absl::StrCat(factor));
  }
}

bool WatchedRun::Ended() const { return end_.wait_for(std::chrono::milliseconds(50)) == std::future_status::ready; }

const ProgramResult& WatchedRun::Result() {
  end_.wait();
  return result_;
}

}  // namespace isthmus::testing
