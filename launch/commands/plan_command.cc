#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "launch/commands.h"
#include "launch/commands/result_path.h"
#include "launch/options.h"
#include "launch/plan/plan.h"
#include "launch/plan/plan_report.h"
#include "launch/threads.h"
#include "model/compute_type.h"
#include "runtime/config.h"
#include "runtime/durable_file.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int kMostRanks = 16384;
constexpr size_t kMeshesShown = 6;

struct Arguments {
  std::string config, device = "h100", json, world;
  std::vector<std::string> overrides;
  // A number below 0 stands for that of the device's table.
  int64_t devices_per_node = -1;
  double device_gbytes = -1, network_gbytes = -1, memory_gbytes = -1, device_hop = -1, network_hop = -1;
  bool verbose = false;
};

Options PlanOptions(Arguments& arguments) {
  Options options("isthmus plan",
                  "Parameters, memory, collectives and predicted speed of a run, and better meshes for it. Needs no "
                  "GPU and opens no data. Options of links below 0 keep the device's own.");
  options.Add("config", "FILE", "run configuration, text format of proto/config.proto", &arguments.config, true)
      .Add("set", "PATH=VALUE", "override a field, for example mesh.tensor=2", &arguments.overrides)
      .Add("world", "N", "ranks; without it mesh.tensor × mesh.data, where mesh.data 0 counts as 1", &arguments.world)
      .Add("device", "NAME", "h100, h200, a100: from data sheets; cpu: this machine, measured", &arguments.device)
      .Add("gpus-per-node", "N", "devices of one node", &arguments.devices_per_node)
      .Add("nvlink-gbytes", "X", "GB/s per direction of one device within its node", &arguments.device_gbytes)
      .Add("network-gbytes", "X", "GB/s per direction of one node", &arguments.network_gbytes)
      .Add("nvlink-microseconds", "X", "of one hop within a node", &arguments.device_hop)
      .Add("network-microseconds", "X", "of one hop between nodes", &arguments.network_hop)
      .Add("memory-gbytes", "X", "memory of one device, in GB", &arguments.memory_gbytes)
      .Add("json", "FILE", "write the plan there too, as one JSON object", &arguments.json)
      .Add("verbose", "", "every tensor and operator by name", &arguments.verbose);
  return options;
}

absl::StatusOr<int> WorldOf(const Arguments& arguments, const proto::RunConfig& config) {
  if (arguments.world.empty()) {
    const int64_t tensor = std::max(config.mesh().tensor(), 1), data = std::max(config.mesh().data(), 1);
    if (tensor * data <= kMostRanks) return static_cast<int>(tensor * data);
    return absl::InvalidArgumentError(absl::StrCat(arguments.config, ": mesh.tensor: ", tensor,
                                                   "; makes with mesh.data (", data, ") more than the ", kMostRanks,
                                                   " ranks of a plan"));
  }
  int world = 0;
  if (absl::SimpleAtoi(arguments.world, &world) && world >= 1 && world <= kMostRanks) return world;
  return absl::InvalidArgumentError(
      absl::StrCat("--world: found \"", arguments.world, "\"; accepts 1 to ", kMostRanks));
}

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

absl::StatusOr<Machine> MachineOf(const Arguments& arguments, DType compute_type, int world) {
  Machine machine;
  if (arguments.device == "cpu") {
    // Speed is measured on the threads of all ranks. The plan is for those of one rank, because attention's workspace
    // depends on them.
    const int64_t per_node = std::min<int64_t>(arguments.devices_per_node, kMostRanks);
    const int ranks = per_node > 0 ? static_cast<int>(per_node) : world;
    const int threads = ThreadsPerRank(ranks), cores = static_cast<int>(std::thread::hardware_concurrency());
    ISTHMUS_RETURN_IF_ERROR(StartThreads(std::max(std::min(threads * ranks, cores), threads)));
    ISTHMUS_ASSIGN_OR_RETURN(machine, MeasureCpuMachine(compute_type, 1.0 / ranks, ranks));
    SetThreads(threads);
  } else {
    ISTHMUS_ASSIGN_OR_RETURN(machine, GpuMachine(arguments.device));
  }
  LinkSpec& links = machine.links;
  double per_node = links.devices_per_node, memory = static_cast<double>(machine.device.memory_bytes);
  ISTHMUS_RETURN_IF_ERROR(Replace("--gpus-per-node", static_cast<double>(arguments.devices_per_node), 1, per_node));
  ISTHMUS_RETURN_IF_ERROR(Replace("--nvlink-gbytes", arguments.device_gbytes, 1e9, links.device_bytes));
  ISTHMUS_RETURN_IF_ERROR(Replace("--network-gbytes", arguments.network_gbytes, 1e9, links.node_bytes));
  ISTHMUS_RETURN_IF_ERROR(Replace("--nvlink-microseconds", arguments.device_hop, 1e-6, links.device_hop_seconds));
  ISTHMUS_RETURN_IF_ERROR(Replace("--network-microseconds", arguments.network_hop, 1e-6, links.node_hop_seconds));
  ISTHMUS_RETURN_IF_ERROR(Replace("--memory-gbytes", arguments.memory_gbytes, 1e9, memory));
  links.devices_per_node = static_cast<int>(std::min<double>(per_node, kMostRanks));
  machine.device.memory_bytes = static_cast<int64_t>(memory);
  return machine;
}

}  // namespace

absl::Status PlanCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  Arguments given;
  Options options = PlanOptions(given);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (!given.json.empty()) {
    ISTHMUS_RETURN_IF_ERROR(CheckResultPath("--json", given.json, {.files = {given.config}, .folders = {}}));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const proto::RunConfig config, LoadConfig(given.config, given.overrides));
  ISTHMUS_ASSIGN_OR_RETURN(const int world, WorldOf(given, config));
  ISTHMUS_ASSIGN_OR_RETURN(const Machine machine, MachineOf(given, ComputeType(config.precision()), world));
  ISTHMUS_ASSIGN_OR_RETURN(const Plan plan, MakePlan(config, machine, world, given.config));
  const std::vector<Plan> meshes = BestMeshes(plan, kMeshesShown);
  // If the object goes to standard output, nothing else may go there.
  std::ostream& says = !given.json.empty() && IsStandardOutput(given.json) ? std::cerr : out;
  if (!given.json.empty()) {
    ISTHMUS_RETURN_IF_ERROR(WriteDurably(given.json, PlanJson(plan, meshes, given.config), FileOwner::kUser));
  }
  says << PlanText(plan, meshes, given.config, given.verbose);
  return absl::OkStatus();
}

}  // namespace isthmus
