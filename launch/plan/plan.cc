#include "launch/plan/plan.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "checkpoint/staging.h"
#include "model/compute_type.h"
#include "model/heads/heads.h"
#include "model/measure/measurement_memory.h"
#include "model/model.h"
#include "model/resolve.h"
#include "model/train/dry_run.h"
#include "model/train/parameter_groups.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckForDevice(const proto::RunConfig& config, const Machine& machine, absl::string_view source) {
  if (config.model().vocabulary() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(source,
                     ": model.vocabulary: 0 takes it from the token shards, which a plan does not open; set it, for "
                     "example --set model.vocabulary=49152"));
  }
  if (HeadHasClusters(config.model()) && config.model().head().clusters().count() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        source,
        ": model.head.clusters.count: 0 takes it from data.token_clusters, which a plan does not open; set it"));
  }
  if (machine.device.device == Device::kCuda && config.precision().compute() == proto::PrecisionConfig::FP64) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": precision.compute: FP64 runs on the CPU only; accepted here: FP32, BF16, or --device cpu"));
  }
  if (config.precision().fp8_layers() && machine.device.bf16.fp8_product_flops == 0) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": precision.fp8_layers: true; ", machine.device.name,
                                                   " has no 8-bit products; accepted here: false, or --device h100, "
                                                   "h200, cpu"));
  }
  return absl::OkStatus();
}

auto MeshOf(const Plan& plan) {
  const proto::RunConfig& config = plan.config;
  return std::tuple(config.mesh().tensor(), config.batch().micro_batch(), config.precision().recompute(),
                    config.mesh().data() > 1 && config.mesh().shard_optimizer(),
                    config.mesh().tensor() > 1 && config.mesh().sequence_parallel());
}

std::vector<int64_t> DivisorsOf(int64_t number) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= number; ++d) {
    if (number % d == 0) divisors.push_back(d);
  }
  return divisors;
}

absl::StatusOr<PlannedStep> PlanStep(const proto::RunConfig& config, const Machine& machine, bool measure) {
  PlannedStep step;
  ISTHMUS_ASSIGN_OR_RETURN(step.work, RecordStep(config, {.device = machine.device.device, .measure = measure}));
  step.time =
      PredictStep(step.work, machine, ComputeType(config.precision()), config.mesh().tensor(), config.mesh().data());
  return step;
}

// Makes a plan without the cost of measuring.
absl::StatusOr<Plan> PlanMesh(proto::RunConfig config, const Machine& machine, int world, absl::string_view source) {
  ISTHMUS_RETURN_IF_ERROR(ResolveConfig(config, world, source));
  ISTHMUS_RETURN_IF_ERROR(CheckForDevice(config, machine, source));
  ISTHMUS_RETURN_IF_ERROR(CheckParameterGroups(config.optimizer(), ParametersOf(config), source));
  Plan plan;
  plan.config = std::move(config);
  plan.world = world;
  plan.machine = machine;
  plan.parameters = ParameterGroups::Of(ParametersOf(plan.config));
  plan.memory = PlanLargestTrainingMemory(plan.config, machine.device.device);
  plan.staging_bytes = PlanStagingBytes(plan.config);
  plan.causal_flops_per_token = FlopsPerToken(plan.config, /*causal=*/true);
  plan.full_flops_per_token = FlopsPerToken(plan.config, /*causal=*/false);
  ISTHMUS_ASSIGN_OR_RETURN(plan.step, PlanStep(plan.config, machine, /*measure=*/false));
  return plan;
}

// Calls visit(step, is_listed) for a plan's steps; is_listed(phase) says whether to list the step's calls of a phase.
template <typename Visit>
void ForEachStep(const Plan& plan, const Visit& visit) {
  visit(plan.step, [](StepPhase) { return true; });
  if (plan.measuring) visit(*plan.measuring, [](StepPhase phase) { return phase == StepPhase::kTelemetry; });
}

}  // namespace

ParameterGroups ParameterGroups::Of(const ParameterTable& whole) {
  ParameterGroups groups;
  for (const ParameterSpec& spec : whole.specs) {
    const int64_t size = spec.rows * spec.columns;
    switch (spec.role) {
      case ParameterRole::kEmbedding:
        groups.embedding += size;
        break;
      case ParameterRole::kNorm:
        groups.norms += size;
        break;
      case ParameterRole::kMixer:
        groups.mixer += size;
        break;
      case ParameterRole::kFeedForward:
        groups.feed_forward += size;
        break;
      case ParameterRole::kHead:
        groups.head += size;
        break;
    }
  }
  return groups;
}

absl::StatusOr<Plan> MakePlan(proto::RunConfig config, const Machine& machine, int world, absl::string_view source) {
  ISTHMUS_ASSIGN_OR_RETURN(Plan plan, PlanMesh(std::move(config), machine, world, source));
  const proto::ModelConfig& model = plan.config.model();
  if (MeasuresHead(plan.config) && model.vocabulary() <= kMostPlannedRows && model.width() <= kMostPlannedWidth) {
    ISTHMUS_ASSIGN_OR_RETURN(plan.measuring, PlanStep(plan.config, machine, /*measure=*/true));
  }
  return plan;
}

std::vector<PlannedOperators> Plan::Operators() const {
  std::vector<PlannedOperators> listed;
  ForEachStep(*this, [&](const PlannedStep& planned, const auto& is_listed) {
    const std::vector<int64_t> counts = planned.work.OperatorCounts();
    for (size_t i = 0; i < counts.size(); ++i) {
      const OperatorCall& call = planned.work.operators[i];
      if (is_listed(call.phase)) listed.push_back({call, counts[i], planned.time.operators[i]});
    }
  });
  return listed;
}

std::vector<PlannedCollectives> Plan::Collectives() const {
  std::vector<PlannedCollectives> listed;
  ForEachStep(*this, [&](const PlannedStep& planned, const auto& is_listed) {
    const std::vector<int64_t> counts = planned.work.CollectiveCounts();
    for (size_t i = 0; i < counts.size(); ++i) {
      const CollectiveCall& call = planned.work.collectives[i];
      if (is_listed(call.phase)) listed.push_back({call, counts[i], planned.time.collectives[i]});
    }
  });
  return listed;
}

bool SameMesh(const Plan& a, const Plan& b) { return MeshOf(a) == MeshOf(b); }

std::vector<Plan> BestMeshes(const Plan& plan, size_t most) {
  // Each plan lists every tensor and every call of every layer, so the layers of all plans together are limited. No
  // model that anybody trains reaches the limit.
  int64_t layers_left = int64_t{1} << 17;
  std::vector<Plan> found;
  const auto consider = [&](int64_t tensor, int64_t micro_batch, int options) {
    const bool recompute = (options & 1) != 0, shard = (options & 2) != 0, sequence_parallel = (options & 4) != 0;
    if ((shard && tensor == plan.world) || (sequence_parallel && tensor == 1)) return;  // the same as without
    if ((layers_left -= plan.config.model().layers()) < 0) return;
    proto::RunConfig config = plan.config;
    config.mutable_mesh()->set_tensor(static_cast<int32_t>(tensor));
    config.mutable_mesh()->set_data(0);
    config.mutable_mesh()->set_shard_optimizer(shard);
    config.mutable_mesh()->set_sequence_parallel(sequence_parallel);
    config.mutable_precision()->set_recompute(recompute);
    config.mutable_batch()->set_micro_batch(micro_batch);
    auto candidate = PlanMesh(std::move(config), plan.machine, plan.world, "");
    if (!candidate.ok() || !candidate->Fits()) return;
    found.push_back(*std::move(candidate));
  };
  for (const int64_t tensor : DivisorsOf(plan.world)) {
    const int64_t data = plan.world / tensor, sequences = plan.config.batch().sequences();
    if (tensor > plan.machine.links.devices_per_node || sequences % data != 0) continue;
    for (const int64_t micro_batch : DivisorsOf(sequences / data)) {
      for (int options = 0; options < 8; ++options) consider(tensor, micro_batch, options);
    }
  }
  // If plans are equally fast, the smaller mesh comes first.
  std::sort(found.begin(), found.end(), [](const Plan& a, const Plan& b) {
    return std::pair(a.step.time.Total(), a.RequiredBytes()) < std::pair(b.step.time.Total(), b.RequiredBytes());
  });
  if (found.size() > most) found.erase(found.begin() + static_cast<std::ptrdiff_t>(most), found.end());
  return found;
}

}  // namespace isthmus
