#include "launch/plan/machine.h"

#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <algorithm>

#include "ops/matmul_peak.h"
#include "ops/memory_rate.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9, kMicro = 1e-6;

// These are NVIDIA's data sheets of the SXM modules: H100 (2023), H200 (2024), A100 80 GB (2021). Rates are without
// sparsity.
struct DataSheet {
  const char* key;
  const char* name;
  double memory_bytes;
  double bf16_flops;
  double fp8_flops;  // 0: not this one
  // This rate is outside the tensor cores: products of fp32 are not rounded to TF32. Those of fp64 reach the same
  // number in them.
  double fp32_flops;
  double memory_rate;
  double nvlink_bytes;   // per direction: half of what the data sheet adds up
  double network_bytes;  // per node and direction: DGX H100 and H200 8 × 400 Gb/s, DGX A100 8 × 200 Gb/s InfiniBand
  // A fraction of both rates. cuBLAS at its best shape reaches 80.3 % (H100, "H200 is the same") and 86.9 % (A100) of
  // the data sheet. The source is Bekman, Machine Learning Engineering, table of maximum achievable matmul FLOPS.
  // Assumption: 0.9 of that over the shapes of a step, and as much of the 8-bit rate.
  double product_fraction;
  // Fractions of bf16 peak. Forward and backward at head_dim 128, causal, 4k tokens, reach about 560 and 450 TFLOP/s on
  // H100 (FlashAttention-3, arXiv:2407.08608, figures 5 and 6). They reach 190 and 170 on A100 (FlashAttention-2,
  // arXiv:2307.08691). Assumption: cuDNN is as fast forward, and 0.85 of it backward, where the deterministic algorithm
  // is asked for.
  double attention_forward_fraction, attention_backward_fraction;
};
constexpr DataSheet kDataSheets[] = {
    {"h100", "NVIDIA H100 SXM", 80 * kGiga, 989.5 * kTera, 1979 * kTera, 67 * kTera, 3.35 * kTera, 450 * kGiga,
     400 * kGiga, 0.72, 0.55, 0.38},
    {"h200", "NVIDIA H200 SXM", 141 * kGiga, 989.5 * kTera, 1979 * kTera, 67 * kTera, 4.8 * kTera, 450 * kGiga,
     400 * kGiga, 0.72, 0.55, 0.38},
    {"a100", "NVIDIA A100 SXM 80 GB", 80 * kGiga, 312 * kTera, 0, 19.5 * kTera, 2.0 * kTera, 300 * kGiga, 200 * kGiga,
     0.78, 0.60, 0.46},
};

// These are assumptions.
constexpr double kMemoryFraction = 0.85;        // of a data sheet's memory rate, in passes over large tensors
constexpr double kFp32AttentionFraction = 0.3;  // of fp32 peak, in the project's own kernel
constexpr double kReservedBytes = 2 * kGiga;    // CUDA context, cuBLASLt, cuDNN, NCCL
constexpr double kKernelSeconds = 5 * kMicro;   // the host starting one kernel through the operators' checks
// This is a fraction of a link's rate. NCCL's model caps NVLink on A100 at 235 of 300 GB/s (src/graph/tuning.cc); the
// rest is assumed to be like it.
constexpr double kSustained = 0.8;
// These are from the same file: baseLat and hwLat of a ring with the protocol Simple.
constexpr double kStartSeconds = 8.4 * kMicro, kNvlinkHopSeconds = 3.4 * kMicro, kNetworkHopSeconds = 14 * kMicro;

// On a CPU these are rates by kind of work, as parts of the rate measured at start
// (tools/bench/results/2026-11-24-cpu.md). The first two compare products of a training step with a square one: in fp32
// and fp64, and in bf16. Attention, which is computed in fp32 for bf16 too, is compared with the fp32 product.
constexpr double kCpuProductFraction = 0.95, kCpuBf16ProductFraction = 0.5;
constexpr double kCpuAttentionForwardFraction = 0.42, kCpuAttentionBackwardFraction = 0.52;
// Assumptions: ranks of one machine copy through its memory; nodes are connected by 10-Gb/s Ethernet.
constexpr double kCpuCopyBytes = 5 * kGiga, kCpuNetworkBytes = 1.25 * kGiga;
constexpr double kCpuHopSeconds = 5 * kMicro, kCpuNetworkHopSeconds = 50 * kMicro;

DeviceRates CpuRates(double product, double fp32_product, double memory) {
  return {.product_flops = product,
          .fp8_product_flops = kCpuProductFraction * fp32_product,
          .attention_forward_flops = kCpuAttentionForwardFraction * fp32_product,
          .attention_backward_flops = kCpuAttentionBackwardFraction * fp32_product,
          .memory_bytes = memory};
}

}  // namespace

const DeviceRates& DeviceSpec::Rates(DType compute_type) const {
  switch (compute_type) {
    case DType::kBFloat16:
      return bf16;
    case DType::kFloat64:
      return fp64;
    default:
      return fp32;
  }
}

absl::StatusOr<Machine> GpuMachine(absl::string_view name) {
  for (const DataSheet& sheet : kDataSheets) {
    if (name != sheet.key) continue;
    Machine machine;
    machine.device = {
        .name = sheet.name,
        .device = Device::kCuda,
        .memory_bytes = static_cast<int64_t>(sheet.memory_bytes),
        .reserved_bytes = static_cast<int64_t>(kReservedBytes),
        .peak_flops = sheet.bf16_flops,
        .bf16 = {.product_flops = sheet.product_fraction * sheet.bf16_flops,
                 .fp8_product_flops = sheet.product_fraction * sheet.fp8_flops,
                 .attention_forward_flops = sheet.attention_forward_fraction * sheet.bf16_flops,
                 .attention_backward_flops = sheet.attention_backward_fraction * sheet.bf16_flops,
                 .memory_bytes = kMemoryFraction * sheet.memory_rate},
        .fp32 = {.product_flops = sheet.product_fraction * sheet.fp32_flops,
                 .attention_forward_flops = kFp32AttentionFraction * sheet.fp32_flops,
                 .attention_backward_flops = kFp32AttentionFraction * sheet.fp32_flops,
                 .memory_bytes = kMemoryFraction * sheet.memory_rate},
        .fp64 = {.product_flops = sheet.product_fraction * sheet.fp32_flops,
                 .memory_bytes = kMemoryFraction * sheet.memory_rate},
        .kernel_seconds = kKernelSeconds,
    };
    machine.links = {.devices_per_node = 8,
                     .device_bytes = sheet.nvlink_bytes,
                     .node_bytes = sheet.network_bytes,
                     .sustained = kSustained,
                     .start_seconds = kStartSeconds,
                     .device_hop_seconds = kNvlinkHopSeconds,
                     .node_hop_seconds = kNetworkHopSeconds};
    return machine;
  }
  return absl::InvalidArgumentError(absl::StrCat("--device: found \"", name, "\"; accepts h100, h200, a100, cpu"));
}

absl::StatusOr<Machine> MeasureCpuMachine(DType compute_type, double share, int ranks) {
  Stream cpu;
  const absl::Duration budget = absl::Milliseconds(300);
  ISTHMUS_ASSIGN_OR_RETURN(const double peak, MeasureMatmulPeak(compute_type, budget, cpu));
  double fp32_peak = peak;
  if (compute_type == DType::kBFloat16) {
    ISTHMUS_ASSIGN_OR_RETURN(fp32_peak, MeasureMatmulPeak(DType::kFloat32, budget, cpu));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const double memory, MeasureMemoryRate(cpu));
  Machine machine;
  machine.device = {.name = "this CPU",
                    .device = Device::kCpu,
                    .memory_bytes = static_cast<int64_t>(
                        share * static_cast<double>(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE))),
                    .peak_flops = share * peak,
                    .bf16 = CpuRates(share * kCpuBf16ProductFraction * peak, share * fp32_peak, share * memory),
                    .fp32 = CpuRates(share * kCpuProductFraction * fp32_peak, share * fp32_peak, share * memory),
                    // MPI moves data only inside its calls.
                    .overlaps = false};
  machine.device.fp64 = machine.device.fp32;
  // A vector holds half as many numbers.
  if (compute_type != DType::kFloat64) machine.device.fp64.product_flops /= 2;
  machine.links = {.devices_per_node = ranks,
                   .device_bytes = kCpuCopyBytes,
                   .node_bytes = kCpuNetworkBytes,
                   .start_seconds = kCpuHopSeconds,
                   .device_hop_seconds = kCpuHopSeconds,
                   .node_hop_seconds = kCpuNetworkHopSeconds};
  return machine;
}

}  // namespace isthmus
