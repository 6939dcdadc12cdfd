#include "launch/plan/step_time.h"

#include <algorithm>
#include <array>

#include "launch/plan/collective_time.h"

namespace isthmus {
namespace {

constexpr size_t kPhases = 6;
size_t IndexOf(StepPhase phase) { return static_cast<size_t>(phase); }

double OperatorSeconds(const OperatorWork& work, const DeviceRates& rates) {
  const double memory = work.bytes / rates.memory_bytes;
  switch (work.kind) {
    case OperatorWork::Kind::kProduct:
      return std::max(work.flops / rates.product_flops, memory);
    case OperatorWork::Kind::kFp8Product:
      return std::max(work.flops / rates.fp8_product_flops, memory);
    case OperatorWork::Kind::kAttentionForward:
      return std::max(work.flops / rates.attention_forward_flops, memory);
    case OperatorWork::Kind::kAttentionBackward:
      return std::max(work.flops / rates.attention_backward_flops, memory);
    case OperatorWork::Kind::kMemory:
      break;
  }
  return memory;
}

}  // namespace

StepTime PredictStep(const StepWork& work, const Machine& machine, DType compute_type, int tensor_ranks,
                     int data_ranks) {
  const DeviceSpec& device = machine.device;
  StepTime time;
  std::array<double, kPhases> computing{}, starting{}, waiting{};
  for (const OperatorWork& op : work.operators) {
    const auto calls = static_cast<double>(op.calls);
    time.operators.push_back(calls * OperatorSeconds(op, device.Rates(compute_type)));
    computing[IndexOf(op.phase)] += time.operators.back();
    starting[IndexOf(op.phase)] += calls * op.kernels * device.kernel_seconds;
  }
  std::array<double, kPhases> phases{};
  for (size_t i = 0; i < kPhases; ++i) phases[i] = std::max(computing[i], starting[i]);

  const double last_backward =
      phases[IndexOf(StepPhase::kBackward)] / static_cast<double>(std::max<int64_t>(work.micro_batches, 1));
  // Buckets are reduced one after another, from when they are complete; the times count from the end of backward.
  double reduced = -last_backward;
  for (const CollectiveWork& collective : work.collectives) {
    const GroupPlacement group =
        GroupPlacement::Of(collective.group, tensor_ranks, data_ranks, machine.links.devices_per_node);
    CollectiveTime each;
    each.call_seconds = CollectiveSeconds(collective.kind, collective.bytes, group, machine.links);
    each.total_seconds = static_cast<double>(collective.calls) * each.call_seconds;
    each.exposed_seconds = each.total_seconds;
    if (device.overlaps && collective.beside >= 0) {
      const double hidden = time.operators[static_cast<size_t>(collective.beside)];
      each.exposed_seconds = std::max(each.total_seconds - hidden, 0.0);
    }
    if (device.overlaps && collective.backward_left >= 0) {
      const double begin = std::max(reduced, -collective.backward_left * last_backward);
      reduced = begin + each.call_seconds;
      each.exposed_seconds = std::max(reduced - std::max(begin, 0.0), 0.0);
    }
    waiting[IndexOf(collective.phase)] += each.exposed_seconds;
    time.collectives.push_back(each);
  }
  for (size_t i = 0; i < kPhases; ++i) phases[i] += waiting[i];
  time.phases = {.forward = phases[0],
                 .head = phases[1],
                 .backward = phases[2],
                 .reduce = phases[3],
                 .optimizer = phases[4],
                 .telemetry = phases[5]};
  return time;
}

}  // namespace isthmus
