#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <mpi.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <string>

#include "parallel/communicator.h"
#include "parallel/library_versions.h"
#include "parallel/mpi_communicator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr absl::Duration kSetupDeadline = absl::Minutes(30);

int EnvironmentNumber(const char* name) {
  const char* text = std::getenv(name);
  int value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : 0;
}

// True if a launcher has started this process, perhaps with others. Otherwise MPI, which takes half a second to start,
// has nothing to do.
bool IsLaunched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_NAMESPACE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "PMI_FD"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

// If Slurm starts tasks without a way to find each other, Open MPI ends the process. Its message names the options of
// its build rather than what was typed.
absl::Status CheckTasksCanMeet() {
  const int tasks = EnvironmentNumber("SLURM_STEP_NUM_TASKS");
  if (tasks < 2 || std::getenv("SLURM_PROCID") == nullptr) return absl::OkStatus();
  for (const char* name : {"PMIX_NAMESPACE", "PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_SIZE"}) {
    if (std::getenv(name) != nullptr) return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("Slurm started ", tasks, " tasks, but not so that MPI knows of them; start with `srun --mpi=pmix`"));
}

// If MPI does not know that a launcher started several tasks, every task is rank 0 of 1. All would train the same run
// and overwrite each other's files.
absl::Status CheckLauncher(int size) {
  if (size > 1) return absl::OkStatus();
  if (const int tasks = EnvironmentNumber("OMPI_COMM_WORLD_SIZE"); tasks > 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("mpirun started ", tasks,
                     " processes, but MPI says 1; start with the mpirun of the MPI that the "
                     "program was built with"));
  }
  if (const int tasks = EnvironmentNumber("SLURM_STEP_NUM_TASKS");
      tasks > 1 && std::getenv("SLURM_PROCID") != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("Slurm started ", tasks, " tasks, but MPI says 1; start with `srun --mpi=pmix`"));
  }
  return absl::OkStatus();
}

// True if a file of Open MPI's parameters says which interfaces TCP may use.
bool ChoosesInterfaces(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(absl::StripLeadingAsciiWhitespace(line), "btl_tcp_if_")) return true;
  }
  return false;
}

// Keeps ranks of one machine on shared memory and loopback. Otherwise Open MPI 5 looks for a network between them, and
// every rank complains on standard error if there is none. Choices made before stay, because Open MPI accepts only one
// of the two parameters, wherever it is set.
void StayWithinTheMachine() {
  const int ranks = EnvironmentNumber("OMPI_COMM_WORLD_SIZE");
  if (ranks == 0 || EnvironmentNumber("OMPI_COMM_WORLD_LOCAL_SIZE") != ranks) return;
  if (std::getenv("OMPI_MCA_btl_tcp_if_exclude") != nullptr) return;
  const char* home = std::getenv("HOME");
  for (const std::string& folder :
       {home == nullptr ? "" : absl::StrCat(home, "/.openmpi/"), std::string("/etc/openmpi/openmpi-")}) {
    if (ChoosesInterfaces(folder + "mca-params.conf")) return;
  }
  setenv("OMPI_MCA_btl_tcp_if_include", "127.0.0.0/8", /*replace=*/0);
}

// A world of one, for which MPI is not started.
class LoneRuntime : public MpiRuntime {
 public:
  std::unique_ptr<Communicator> World() override { return MakeSelfCommunicator(); }
  const std::shared_ptr<CollectiveRing>& ring() const override { return ring_; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }

 private:
  const std::shared_ptr<CollectiveRing> ring_ = std::make_shared<CollectiveRing>();
};

class MpiRuntimeImplementation : public MpiRuntime {
 public:
  explicit MpiRuntimeImplementation(bool finalize) : finalize_(finalize) {
    MPI_Comm node = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &local_rank_);
    MPI_Comm_size(node, &local_size_);
    MPI_Comm_free(&node);
  }
  ~MpiRuntimeImplementation() override {
    if (finalize_) MPI_Finalize();
  }

  std::unique_ptr<Communicator> World() override {
    int size = 1, rank = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (size == 1) return MakeSelfCommunicator();
    auto world = std::make_unique<MpiCommunicator>(MPI_COMM_WORLD, rank, "world", ring_);
    world->set_deadline(kSetupDeadline);
    return world;
  }
  const std::shared_ptr<CollectiveRing>& ring() const override { return ring_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }

 private:
  bool finalize_;
  const std::shared_ptr<CollectiveRing> ring_ = std::make_shared<CollectiveRing>();
  int local_rank_ = 0;
  int local_size_ = 1;
};

}  // namespace

std::string MpiVersion() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return "";
  // The text after the first comma is the builder's.
  const std::string whole(text.data(), static_cast<size_t>(length));
  return whole.substr(0, whole.find(','));
}

absl::StatusOr<std::unique_ptr<MpiRuntime>> MpiRuntime::Initialize() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (!initialized) {
    ISTHMUS_RETURN_IF_ERROR(CheckTasksCanMeet());
    if (!IsLaunched()) return std::make_unique<LoneRuntime>();
    StayWithinTheMachine();
    // Where ranks share cores Open MPI would yield whenever a request is tested. A rank gives way by itself, for less
    // than a time slice (parallel/give_way.h).
    setenv("OMPI_MCA_mpi_yield_when_idle", "0", /*replace=*/0);
    int provided = 0;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
      return absl::UnavailableError("MPI could not be initialised; see the message of the MPI library above");
    }
  }
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  auto runtime = std::make_unique<MpiRuntimeImplementation>(!initialized);
  ISTHMUS_RETURN_IF_ERROR(CheckLauncher(size));
  return runtime;
}

}  // namespace isthmus
