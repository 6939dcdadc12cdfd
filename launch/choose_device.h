// Chooses the device that a rank computes on.
#ifndef ISTHMUS_LAUNCH_CHOOSE_DEVICE_H_
#define ISTHMUS_LAUNCH_CHOOSE_DEVICE_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <string>

#include "parallel/communicator.h"
#include "proto/config.pb.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace isthmus {

struct ChosenDevice {
  Stream stream;
  std::string name;       // "CPU", or the GPU's
  double peak_flops = 0;  // of a GPU: dense bf16 operations per second; 0 where it is not known, or to be measured
};

// Returns the GPU of this rank, one after another within a node, or the CPU. `device` AUTO takes GPUs if every rank has
// one and `compute` is not FP64. `local_rank` is this rank's place on its node. `source` names the configuration in
// messages. Collective over `world`. Errors on all ranks: InvalidArgument when CUDA is asked for and can't be had.
absl::StatusOr<ChosenDevice> ChooseDevice(proto::DeviceKind device, proto::PrecisionConfig::Kind compute,
                                          int local_rank, Communicator& world, absl::string_view source);

// Checks that the device multiplies 8-bit operands, which precision.fp8_layers asks for. Errors: InvalidArgument with
// the GPU's name and compute capability.
absl::Status CheckFp8Device(const CudaDevice& device, absl::string_view source);

// Returns dense bf16 operations per second by the name that the driver gives a GPU; 0 if it is not known. The numbers
// are from NVIDIA's data sheets, without sparsity.
double DensePeakFlops(absl::string_view name);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_CHOOSE_DEVICE_H_
