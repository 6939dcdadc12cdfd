#include "launch/sweep/lost_runs.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <system_error>

#include "runtime/durable_file.h"
#include "runtime/exit_status.h"
#include "runtime/status.h"

namespace isthmus::sweep {
namespace {

constexpr int64_t kMostCountBytes = 64;

std::string CountPath(const std::string& claim) { return claim + "/lost"; }

}  // namespace

bool IsLost(int exit_status) {
  return exit_status != kExitDone && exit_status != kExitBadInput && exit_status != kExitDiverged;
}

bool WasAsked(int exit_status) {
  return exit_status == kExitPreempted || exit_status == 128 + SIGTERM || exit_status == 128 + SIGINT ||
         exit_status == 128 + SIGHUP || exit_status == 128 + SIGUSR1;
}

absl::StatusOr<int64_t> CountLoss(const std::string& claim) {
  // A file that says nothing sensible counts as none: then the run is tried more often.
  int64_t count = 0;
  const auto text = ReadFile(CountPath(claim), kMostCountBytes);
  if (!text.ok() || !absl::SimpleAtoi(*text, &count)) count = 0;
  count = std::clamp<int64_t>(count, 0, 1 << 20) + 1;
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(CountPath(claim), absl::StrCat(count, "\n")));
  return count;
}

absl::Status ForgetLosses(const std::string& claim) {
  std::error_code error;
  std::filesystem::remove(CountPath(claim), error);
  return error ? FileError(CountPath(claim), "can't remove it", error.value()) : absl::OkStatus();
}

}  // namespace isthmus::sweep
