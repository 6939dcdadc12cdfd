// A plan says how much memory a run needs and how fast it will be. It follows from the configuration and a machine's
// description alone: no GPU, no data, no other rank.
#ifndef ISTHMUS_LAUNCH_PLAN_PLAN_H_
#define ISTHMUS_LAUNCH_PLAN_PLAN_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "launch/plan/machine.h"
#include "launch/plan/step_time.h"
#include "model/parameters.h"
#include "model/train/training_memory.h"
#include "proto/config.pb.h"
#include "runtime/work_recorder.h"

namespace isthmus {

// Counts parameters of the whole model.
struct ParameterGroups {
  int64_t embedding = 0, mixer = 0, feed_forward = 0, norms = 0, head = 0;
  int64_t total() const { return embedding + mixer + feed_forward + norms + head; }

  static ParameterGroups Of(const ParameterTable& whole);
};

// This is a step of tensor rank 0, which has most vocabulary rows.
struct PlannedStep {
  RecordedWork work;
  StepTime time;
};

// These are calls of a step that are alike.
struct PlannedOperators {
  OperatorCall call;
  int64_t calls = 0;
  double seconds = 0;  // of them all
};
struct PlannedCollectives {
  CollectiveCall call;
  int64_t calls = 0;
  CollectiveTime time;
};

inline constexpr int64_t kMostPlannedRows = int64_t{1} << 20, kMostPlannedWidth = int64_t{1} << 14;

struct Plan {
  proto::RunConfig config;  // resolved for the world
  int world = 1;
  Machine machine;
  ParameterGroups parameters;
  TrainingMemory memory;      // of the rank that holds most
  int64_t staging_bytes = 0;  // of host memory on a rank, for checkpoints in the background
  double causal_flops_per_token = 0, full_flops_per_token = 0;
  PlannedStep step;  // that measures nothing
  // This step measures the head, in a run that does. There is none if the head has more rows than kMostPlannedRows, or
  // is wider than kMostPlannedWidth: its dry run would take long.
  std::optional<PlannedStep> measuring;

  // Returns those of a step, and behind them the telemetry of one that measures.
  std::vector<PlannedOperators> Operators() const;
  std::vector<PlannedCollectives> Collectives() const;
  // Returns how much longer a step that measures takes.
  double MeasuringSeconds() const { return measuring ? measuring->time.Total() - step.time.Total() : 0; }

  int64_t TokensPerStep() const { return config.batch().sequences() * config.data().sequence_length(); }
  int64_t Tokens() const { return TokensPerStep() * config.schedule().steps(); }
  // Returns the hours of the whole run, without its measurements. schedule.max_seconds is not looked at.
  double Hours() const { return static_cast<double>(Tokens()) / TokensPerSecond() / 3600; }
  double TokensPerSecond() const { return static_cast<double>(TokensPerStep()) / step.time.Total(); }
  double Utilisation(double flops_per_token) const {
    return TokensPerSecond() * flops_per_token / (world * machine.device.peak_flops);
  }
  // Returns the bytes on the device. A CPU is both device and host.
  int64_t RequiredBytes() const {
    const int64_t staging = machine.device.device == Device::kCpu ? staging_bytes : 0;
    return memory.bytes().total() + machine.device.reserved_bytes + staging;
  }
  bool Fits() const { return RequiredBytes() <= machine.device.memory_bytes; }
};

// `config` is as loaded. Errors: InvalidArgument "source: field: …" as ResolveConfig, and for model.vocabulary 0, which
// only the data would tell.
absl::StatusOr<Plan> MakePlan(proto::RunConfig config, const Machine& machine, int world, absl::string_view source);

// Returns the plans of other meshes for the same model, batch and world that fit the device, the fastest first, at most
// `most`. It varies mesh.tensor within a node, batch.micro_batch, precision.recompute, mesh.shard_optimizer and
// mesh.sequence_parallel, as far as the configuration's rules allow.
std::vector<Plan> BestMeshes(const Plan& plan, size_t most);

// Returns whether two plans are of the same mesh.
bool SameMesh(const Plan& a, const Plan& b);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_PLAN_PLAN_H_
