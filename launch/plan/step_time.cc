#include "launch/plan/step_time.h"

#include <algorithm>
#include <map>
#include <string>

#include "launch/plan/collective_time.h"

namespace isthmus {
namespace {

double OperatorSeconds(const OperatorCost& cost, const DeviceRates& rates) {
  const double memory = cost.bytes / rates.memory_bytes;
  switch (cost.kind) {
    case OperatorCost::Kind::kProduct:
      return std::max(cost.flops / rates.product_flops, memory);
    case OperatorCost::Kind::kFp8Product:
      return std::max(cost.flops / rates.fp8_product_flops, memory);
    case OperatorCost::Kind::kAttentionForward:
      return std::max(cost.flops / rates.attention_forward_flops, memory);
    case OperatorCost::Kind::kAttentionBackward:
      return std::max(cost.flops / rates.attention_backward_flops, memory);
    case OperatorCost::Kind::kMemory:
      break;
  }
  return memory;
}

// Returns the rates of the operands' type. 8-bit products, and a machine without rates of that type, have those of the
// run's type.
const DeviceRates& RatesOf(const OperatorCost& cost, const DeviceSpec& device, DType compute_type) {
  const bool floating = cost.type == DType::kBFloat16 || cost.type == DType::kFloat32 || cost.type == DType::kFloat64;
  const DeviceRates& own = device.Rates(floating ? cost.type : compute_type);
  return own.memory_bytes > 0 ? own : device.Rates(compute_type);
}

// Goes through the events of a step as the device does. A repeated call passes once, and counts as often as it
// happens.
class Timeline {
 public:
  Timeline(const RecordedWork& work, const Machine& machine, DType compute_type, int tensor_ranks, int data_ranks)
      : work_(work), device_(machine.device) {
    for (const OperatorCall& call : work.operators) {
      operator_seconds_.push_back(OperatorSeconds(call.cost, RatesOf(call.cost, device_, compute_type)));
    }
    for (const CollectiveCall& call : work.collectives) {
      const GroupPlacement group =
          GroupPlacement::Of(call.group, tensor_ranks, data_ranks, machine.links.devices_per_node);
      collective_seconds_.push_back(CollectiveSeconds(call.kind, call.bytes, group, machine.links));
    }
    time_.operators.resize(work.operators.size());
    time_.collectives.resize(work.collectives.size());
  }

  StepTime Take() {
    for (const RecordedWork::Event& event : work_.timeline) {
      switch (event.kind) {
        case RecordedWork::Event::Kind::kOperator:
          Operator(event);
          break;
        case RecordedWork::Event::Kind::kStart:
          Start(event);
          break;
        case RecordedWork::Event::Kind::kWait:
          Wait(event);
          break;
      }
    }
    for (const StepPhase phase : kAllStepPhases) {
      time_.phases[phase] = std::max(computing_[phase], starting_[phase]) + waiting_[phase];
    }
    return std::move(time_);
  }

 private:
  void Operator(const RecordedWork::Event& event) {
    const auto call = static_cast<size_t>(event.call);
    const auto times = static_cast<double>(event.times);
    now_ += operator_seconds_[call];
    time_.operators[call] += times * operator_seconds_[call];
    computing_[event.phase] += times * operator_seconds_[call];
    starting_[event.phase] += times * work_.operators[call].cost.kernels * device_.kernel_seconds;
  }

  void Start(const RecordedWork::Event& event) {
    const auto call = static_cast<size_t>(event.call);
    time_.collectives[call].total_seconds += static_cast<double>(event.times) * collective_seconds_[call];
    double& free = free_[work_.collectives[call].group];
    free = std::max(now_, free) + collective_seconds_[call];
    ends_[event.ticket] = free;
    if (!device_.overlaps) Wait(event);
  }

  void Wait(const RecordedWork::Event& event) {
    const auto found = ends_.find(event.ticket);
    if (found == ends_.end()) return;
    const double waited = std::max(found->second - now_, 0.0);
    ends_.erase(found);
    now_ += waited;
    time_.collectives[static_cast<size_t>(event.call)].exposed_seconds += static_cast<double>(event.times) * waited;
    waiting_[event.phase] += static_cast<double>(event.times) * waited;
  }

  const RecordedWork& work_;
  const DeviceSpec& device_;
  std::vector<double> operator_seconds_, collective_seconds_;  // of a call
  double now_ = 0;
  std::map<std::string, double> free_;  // when a group has done what it was given
  std::map<int, double> ends_;          // of collectives that are not waited for yet
  StepSeconds computing_, starting_, waiting_;
  StepTime time_;
};

}  // namespace

double StepTime::Total() const {
  double total = 0;
  for (const StepPhase phase : kAllStepPhases) total += phases[phase];
  return total;
}

StepTime PredictStep(const RecordedWork& work, const Machine& machine, DType compute_type, int tensor_ranks,
                     int data_ranks) {
  return Timeline(work, machine, compute_type, tensor_ranks, data_ranks).Take();
}

}  // namespace isthmus
