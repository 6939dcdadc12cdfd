#include "launch/plan/machine_options.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <thread>

#include "launch/threads.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int kMostRanks = 16384;

// Writes `value` to `field` if an option gave one.
absl::Status Replace(const char* option, double value, double unit, double& field) {
  if (value == -1) return absl::OkStatus();
  constexpr double kMost = 1e9;
  if (value <= 0 || value > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, ": found ", value, "; needs a number above 0, at most ", kMost));
  }
  field = value * unit;
  return absl::OkStatus();
}

}  // namespace

void MachineOptions::AddTo(Options& options) {
  options.Add("world", "N", "ranks; without it mesh.tensor × mesh.data, where mesh.data 0 counts as 1", &world)
      .Add("device", "NAME", "h100, h200, a100: from data sheets; cpu: this machine, measured", &device)
      .Add("gpus-per-node", "N", "devices of one node", &devices_per_node)
      .Add("nvlink-gbytes", "X", "GB/s per direction of one device within its node", &device_gbytes)
      .Add("network-gbytes", "X", "GB/s per direction of one node", &network_gbytes)
      .Add("nvlink-microseconds", "X", "of one hop within a node", &device_hop)
      .Add("network-microseconds", "X", "of one hop between nodes", &network_hop)
      .Add("memory-gbytes", "X", "memory of one device, in GB", &memory_gbytes);
}

absl::StatusOr<int> WorldOfConfig(const proto::RunConfig& config, absl::string_view source) {
  const int64_t tensor = std::max(config.mesh().tensor(), 1), data = std::max(config.mesh().data(), 1);
  if (tensor * data <= kMostRanks) return static_cast<int>(tensor * data);
  return absl::InvalidArgumentError(absl::StrCat(source, ": mesh.tensor: ", tensor, "; makes with mesh.data (", data,
                                                 ") more than the ", kMostRanks, " ranks of a plan"));
}

absl::StatusOr<int> MachineOptions::WorldOf(const proto::RunConfig& config, absl::string_view source) const {
  if (world.empty()) return WorldOfConfig(config, source);
  int ranks = 0;
  if (absl::SimpleAtoi(world, &ranks) && ranks >= 1 && ranks <= kMostRanks) return ranks;
  return absl::InvalidArgumentError(absl::StrCat("--world: found \"", world, "\"; accepts 1 to ", kMostRanks));
}

absl::StatusOr<Machine> MachineOptions::MachineOf(DType compute_type, int ranks) const {
  Machine machine;
  if (device == "cpu") {
    // Speed is measured on the threads of all ranks. The plan is for those of one rank, because attention's workspace
    // depends on them.
    const int64_t per_node = std::min<int64_t>(devices_per_node, kMostRanks);
    const int sharing = per_node > 0 ? static_cast<int>(per_node) : ranks;
    const int threads = ThreadsPerRank(sharing), cores = static_cast<int>(std::thread::hardware_concurrency());
    ISTHMUS_RETURN_IF_ERROR(StartThreads(std::max(std::min(threads * sharing, cores), threads)));
    ISTHMUS_ASSIGN_OR_RETURN(machine, MeasureCpuMachine(compute_type, 1.0 / sharing, sharing));
    SetThreads(threads);
  } else {
    ISTHMUS_ASSIGN_OR_RETURN(machine, GpuMachine(device));
  }
  LinkSpec& links = machine.links;
  double per_node = links.devices_per_node, memory = static_cast<double>(machine.device.memory_bytes);
  ISTHMUS_RETURN_IF_ERROR(Replace("--gpus-per-node", static_cast<double>(devices_per_node), 1, per_node));
  ISTHMUS_RETURN_IF_ERROR(Replace("--nvlink-gbytes", device_gbytes, 1e9, links.device_bytes));
  ISTHMUS_RETURN_IF_ERROR(Replace("--network-gbytes", network_gbytes, 1e9, links.node_bytes));
  ISTHMUS_RETURN_IF_ERROR(Replace("--nvlink-microseconds", device_hop, 1e-6, links.device_hop_seconds));
  ISTHMUS_RETURN_IF_ERROR(Replace("--network-microseconds", network_hop, 1e-6, links.node_hop_seconds));
  ISTHMUS_RETURN_IF_ERROR(Replace("--memory-gbytes", memory_gbytes, 1e9, memory));
  links.devices_per_node = static_cast<int>(std::min<double>(per_node, kMostRanks));
  machine.device.memory_bytes = static_cast<int64_t>(memory);
  return machine;
}

}  // namespace isthmus
