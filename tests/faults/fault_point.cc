// Takes the place of runtime/fault_point.cc in `isthmus_with_faults`.
//
// ISTHMUS_FAULTS holds faults separated by ';', each `point[@rank][#hit]=action`. A fault happens on that rank, or on
// all if there is none, when the point is passed for that time. Times count from 1; `*` means every time, and the
// default is the first. Actions: kill, stop, term, usr1, int (signals to the process itself), sleep:SECONDS, and
// await:FILE (waits until the file exists). At points with data there are also nan, inf and scale:FACTOR, which change
// the first element. ISTHMUS_FAULT_LOG is a file name; every point that a rank passes is a line of FILE.RANK.
// ISTHMUS_FAULT_HASTE is a file name, too. While such a file exists, deadlines of collectives pass as many times faster
// as it says.
// A fault that can't be read ends the program, because a test with it would test nothing.
#include "runtime/fault_point.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/device.h"
#include "runtime/dtype.h"

namespace isthmus {
namespace {

struct Fault {
  std::string point, action;
  int rank = -1;    // any
  int64_t hit = 1;  // 0: every
};

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The launcher says it before MPI does.
int Rank() {
  int rank = 0;
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    if (absl::SimpleAtoi(Variable(name), &rank)) return rank;
  }
  return 0;
}

[[noreturn]] void Refuse(absl::string_view fault) {
  std::cerr << "ISTHMUS_FAULTS: can't read \"" << fault << "\"" << std::endl;
  std::_Exit(2);
}

Fault Parse(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> sides = absl::StrSplit(text, absl::MaxSplits('=', 1));
  const std::pair<absl::string_view, absl::string_view> hit = absl::StrSplit(sides.first, absl::MaxSplits('#', 1));
  const std::pair<absl::string_view, absl::string_view> rank = absl::StrSplit(hit.first, absl::MaxSplits('@', 1));
  Fault fault{.point = std::string(rank.first), .action = std::string(sides.second)};
  if (fault.point.empty() || fault.action.empty()) Refuse(text);
  if (!rank.second.empty() && !absl::SimpleAtoi(rank.second, &fault.rank)) Refuse(text);
  if (hit.second == "*") {
    fault.hit = 0;
  } else if (!hit.second.empty() && !absl::SimpleAtoi(hit.second, &fault.hit)) {
    Refuse(text);
  }
  return fault;
}

class Faults {
 public:
  Faults() {
    for (const auto text : absl::StrSplit(Variable("ISTHMUS_FAULTS"), ';', absl::SkipWhitespace())) {
      faults_.push_back(Parse(text));
    }
    const std::string log = Variable("ISTHMUS_FAULT_LOG");
    if (!log.empty()) log_.open(absl::StrCat(log, ".", rank_), std::ios::app);
  }

  // Returns the actions that must happen now.
  std::vector<std::string> Pass(const std::string& point) {
    const std::lock_guard lock(mutex_);
    if (log_.is_open()) log_ << point << std::endl;
    const int64_t hit = ++hits_[point];
    std::vector<std::string> actions;
    for (const Fault& fault : faults_) {
      if (fault.point == point && (fault.rank < 0 || fault.rank == rank_) && (fault.hit == 0 || fault.hit == hit)) {
        actions.push_back(fault.action);
      }
    }
    return actions;
  }

 private:
  int rank_ = Rank();
  std::vector<Fault> faults_;
  std::mutex mutex_;
  std::map<std::string, int64_t> hits_;
  std::ofstream log_;
};

Faults& AllFaults() {
  static auto& faults = *new Faults;  // threads pass points until the very end
  return faults;
}

void Spoil(const std::string& action, const Tensor& data, const Stream& stream) {
  const Tensor first(data.data, data.dtype, 1, 1);
  std::vector<char> bytes(static_cast<size_t>(first.bytes()));
  const Tensor host(bytes.data(), data.dtype, 1, 1);
  if (!CopyToHost(first, host, stream).ok()) Refuse(action);
  const auto change = [&](double value) -> double {
    double factor = 0;
    if (action == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (action == "inf") return std::numeric_limits<double>::infinity();
    if (absl::StartsWith(action, "scale:") && absl::SimpleAtod(action.substr(6), &factor)) return value * factor;
    Refuse(action);
  };
  switch (data.dtype) {
    case DType::kFloat64:
      *host.As<double>() = change(*host.As<double>());
      break;
    case DType::kFloat32:
      *host.As<float>() = static_cast<float>(change(*host.As<float>()));
      break;
    case DType::kBFloat16:
      *host.As<BFloat16>() = BFloat16(static_cast<float>(change(static_cast<float>(*host.As<BFloat16>()))));
      break;
    default:
      Refuse(action);
  }
  if (!CopyFromHost(host, first, stream).ok()) Refuse(action);
}

// Another thread takes the signal (runtime/stop_signals.h). By then it has its default effect again, or is ignored.
void WaitUntilRemembered(int signal) {
  struct sigaction now {};
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    sigaction(signal, nullptr, &now);
  } while (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN);
}

// Says whether the action needs no data.
bool Act(const std::string& action) {
  static const std::map<std::string, int> signals = {
      {"kill", SIGKILL}, {"stop", SIGSTOP}, {"term", SIGTERM}, {"usr1", SIGUSR1}, {"int", SIGINT}};
  if (const auto signal = signals.find(action); signal != signals.end()) {
    kill(getpid(), signal->second);
    if (signal->first == "term" || signal->first == "usr1" || signal->first == "int")
      WaitUntilRemembered(signal->second);
    return true;
  }
  if (absl::StartsWith(action, "await:")) {
    while (access(action.substr(6).c_str(), F_OK) != 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return true;
  }
  double seconds = 0;
  if (!absl::StartsWith(action, "sleep:") || !absl::SimpleAtod(action.substr(6), &seconds)) return false;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  return true;
}

}  // namespace

double FaultHaste() {
  static const auto& file = *new std::string(Variable("ISTHMUS_FAULT_HASTE"));
  if (file.empty() || access(file.c_str(), F_OK) != 0) return 1;
  double factor = 1;  // as long as the number is not written yet
  std::ifstream(file) >> factor;
  return factor > 0 ? factor : 1;
}

void FaultPoint(const char* name) {
  for (const std::string& action : AllFaults().Pass(name)) {
    if (!Act(action)) Refuse(absl::StrCat(name, "=", action));
  }
}

void FaultPoint(const char* name, const Tensor& data, const Stream& stream) {
  for (const std::string& action : AllFaults().Pass(name)) {
    if (!Act(action)) Spoil(action, data, stream);
  }
}

}  // namespace isthmus
