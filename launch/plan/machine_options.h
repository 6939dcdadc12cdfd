// The options that say how many ranks of which machine a plan is for: of `isthmus plan`, and of `isthmus sweep --plan`.
#ifndef ISTHMUS_LAUNCH_PLAN_MACHINE_OPTIONS_H_
#define ISTHMUS_LAUNCH_PLAN_MACHINE_OPTIONS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <string>

#include "launch/options.h"
#include "launch/plan/machine.h"
#include "proto/config.pb.h"
#include "runtime/dtype.h"

namespace isthmus {

struct MachineOptions {
  std::string device, world;
  // A number below 0 stands for that of the device's table.
  int64_t devices_per_node = -1;
  double device_gbytes = -1, network_gbytes = -1, memory_gbytes = -1, device_hop = -1, network_hop = -1;

  friend bool operator==(const MachineOptions&, const MachineOptions&) = default;

  // Adds --world, --device and the options of links. This object must outlive `options`.
  void AddTo(Options& options);
  // Returns --world, or without it that of the configuration. Errors: InvalidArgument.
  absl::StatusOr<int> WorldOf(const proto::RunConfig& config, absl::string_view source) const;
  // Errors: InvalidArgument for what no option accepts; those of GpuMachine and of MeasureCpuMachine.
  absl::StatusOr<Machine> MachineOf(DType compute_type, int ranks) const;
};

// Returns the ranks that a configuration itself is for: mesh.tensor × mesh.data, where mesh.data 0 counts as 1. Errors:
// InvalidArgument for more than a plan accepts.
absl::StatusOr<int> WorldOfConfig(const proto::RunConfig& config, absl::string_view source);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_PLAN_MACHINE_OPTIONS_H_
