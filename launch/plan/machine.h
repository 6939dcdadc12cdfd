// A plan is made for one of these machines. They say how fast one device computes, and how devices are connected. Every
// constant is in machine.cc, with its source, or marked as an assumption.
#ifndef ISTHMUS_LAUNCH_PLAN_MACHINE_H_
#define ISTHMUS_LAUNCH_PLAN_MACHINE_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <string>

#include "proto/config.pb.h"
#include "runtime/dtype.h"
#include "runtime/stream.h"

namespace isthmus {

// One rank's device does this much per second on the work of a training step.
struct DeviceRates {
  double product_flops = 0;
  double fp8_product_flops = 0;  // 0: not this device
  double attention_forward_flops = 0;
  double attention_backward_flops = 0;
  double memory_bytes = 0;
};

struct DeviceSpec {
  std::string name;  // "NVIDIA H100 SXM"
  Device device = Device::kCuda;
  int64_t memory_bytes = 0;      // of the device
  int64_t reserved_bytes = 0;    // of it, for what no arena holds: the CUDA context, libraries, NCCL's buffers
  double peak_flops = 0;         // what utilisation counts against (DESIGN section 7)
  DeviceRates bf16, fp32, fp64;  // of fp64 on GPUs products and memory only
  double kernel_seconds = 0;     // of the host, to start one kernel
  // True if collectives run beside the device's own work.
  bool overlaps = true;

  const DeviceRates& Rates(DType compute_type) const;
};

struct LinkSpec {
  int devices_per_node = 1;
  double device_bytes = 0;        // per second and direction, of one device within its node
  double node_bytes = 0;          // per second and direction, of one node's network
  double sustained = 1;           // part of these that a large collective reaches
  double start_seconds = 0;       // of any collective
  double device_hop_seconds = 0;  // one step of a ring within a node
  double node_hop_seconds = 0;    // between nodes
};

struct Machine {
  DeviceSpec device;
  LinkSpec links;
};

// `name` is "h100", "h200" or "a100"; nodes have eight GPUs. Errors: InvalidArgument.
absl::StatusOr<Machine> GpuMachine(absl::string_view name);

// Measures this CPU now, in less than a second, on this process's threads. A rank gets `share` of the result, and of
// the memory. All ranks are taken to be on one machine unless the caller changes `devices_per_node`.
absl::StatusOr<Machine> MeasureCpuMachine(DType compute_type, double share, int ranks);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_PLAN_MACHINE_H_
