#include "tests/support/slurm_cluster.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <poll.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/support/paths.h"

namespace isthmus::testing {
namespace {

constexpr auto kPause = std::chrono::milliseconds(200);

}  // namespace

SlurmCluster::SlurmCluster() {
  // It is closed on exec: the cluster ends with the last copy of this end of the pipe, which only the test may have.
  commands_ = popen(
      absl::StrCat("exec ", SourceFolder(), "/tests/slurm/cluster ", folder_.path(), " >", folder_ / "out", " 2>&1")
          .c_str(),
      "we");
  const std::string file = folder_ / "state";
  // It says in time what became of it, or ends. Then nothing reads commands any more.
  for (bool ended = commands_ == nullptr; state_.empty() && !ended;) {
    pollfd reader{.fd = fileno(commands_), .events = 0, .revents = 0};
    ended = poll(&reader, 1, 0) > 0;
    state_ = ReadText(file);
    absl::StripAsciiWhitespace(&state_);
    if (state_.empty() && !ended) std::this_thread::sleep_for(kPause);
  }
  if (state_.empty()) state_ = "it did not start: " + ReadText(folder_ / "out");
}

SlurmCluster::~SlurmCluster() {
  if (commands_ != nullptr) pclose(commands_);
}

ProgramResult SlurmCluster::Run(const std::string& command, int seconds) const {
  return RunShell(absl::StrCat("export SLURM_CONF=", folder_ / "slurm.conf", "; ", command), seconds);
}

void SlurmCluster::Crash(const std::string& node) {
  std::fputs(absl::StrCat("crash ", node, "\n").c_str(), commands_);
  std::fflush(commands_);
  // A test whose node can't be killed is ended by CTest.
  while (!absl::StrContains(ReadText(folder_ / "crashed"), node)) std::this_thread::sleep_for(kPause);
}

std::string SlurmCluster::Submit(const std::string& program, const std::string& options,
                                 const std::string& environment) const {
  // Loopback connects the nodes even where there is no network; several ranks share a core.
  const ProgramResult result =
      Run(absl::StrCat("export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 ",
                       environment, "; ", SourceFolder(), "/launch/slurm/submit --sbatch=--parsable --program ",
                       program, " --logs ", folder_ / "logs", " ", options));
  if (result.exit_status != 0) {
    std::fputs(result.out.c_str(), stderr);
    return "";
  }
  return std::string(absl::StripAsciiWhitespace(result.out));
}

std::string SlurmCluster::Field(const std::string& job, const std::string& name) const {
  const ProgramResult shown = Run("scontrol --oneliner show job " + job);
  const size_t at = shown.out.find(absl::StrCat(" ", name, "="));
  if (at == std::string::npos) return "";
  const size_t begin = at + name.size() + 2;
  return shown.out.substr(begin, shown.out.find(' ', begin) - begin);
}

bool SlurmCluster::WaitFor(const std::string& job, const std::string& name, const std::string& value,
                           int seconds) const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (Field(job, name) != value) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

std::string SlurmCluster::Describe(const std::string& job) const {
  std::string text = Run("sinfo -N; scontrol show job " + job).out;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(folder_ / "logs", error)) {
    if (file.path().filename().string().find(absl::StrCat("-", job)) == std::string::npos) continue;
    absl::StrAppend(&text, "== ", file.path().string(), "\n", ReadText(file.path().string()));
  }
  return text;
}

}  // namespace isthmus::testing
