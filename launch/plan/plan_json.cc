#include <nlohmann/json.hpp>
#include <utility>

#include "launch/plan/plan_report.h"

namespace isthmus {
namespace {

using Json = nlohmann::ordered_json;

Json MemoryJson(const Plan& plan) {
  const MemoryBytes bytes = plan.memory.bytes();
  return {{"weights", bytes.weights},
          {"gradients", bytes.gradients},
          {"optimizer", bytes.optimizer},
          {"activations", bytes.activations},
          {"head", bytes.head},
          {"decomposition", bytes.decomposition},
          {"tokens", bytes.tokens},
          {"scratch", bytes.scratch},
          {"total", bytes.total()},
          {"reserved", plan.machine.device.reserved_bytes},
          {"device", plan.machine.device.memory_bytes},
          {"host_staging", plan.staging_bytes}};
}

Json MeshJson(const Plan& plan) {
  const proto::RunConfig& config = plan.config;
  return {{"tensor", config.mesh().tensor()},
          {"data", config.mesh().data()},
          {"micro_batch", config.batch().micro_batch()},
          {"recompute", config.precision().recompute()},
          {"shard_optimizer", config.mesh().shard_optimizer()},
          {"sequence_parallel", config.mesh().sequence_parallel()},
          {"memory_bytes", plan.memory.bytes().total()},
          {"fits", plan.Fits()},
          {"step_seconds", plan.step.time.Total()},
          {"tokens_per_second", plan.TokensPerSecond()},
          {"causal_utilisation_ratio", plan.Utilisation(plan.causal_flops_per_token)},
          {"full_utilisation_ratio", plan.Utilisation(plan.full_flops_per_token)}};
}

Json CollectivesJson(const Plan& plan) {
  Json list = Json::array();
  for (const auto& [call, calls, time] : plan.Collectives()) {
    list.push_back({{"phase", PhaseName(call.phase)},
                    {"place", call.place},
                    {"kind", CollectiveName(call.kind)},
                    {"group", call.group},
                    {"calls", calls},
                    {"bytes", call.bytes},
                    {"total_seconds", time.total_seconds},
                    {"exposed_seconds", time.exposed_seconds}});
  }
  return list;
}

}  // namespace

std::string PlanJson(const Plan& plan, absl::Span<const Plan> meshes, absl::string_view source) {
  const ParameterGroups& groups = plan.parameters;
  Json phases;
  for (const StepPhase phase : kAllStepPhases) {
    if (phase != StepPhase::kData) phases[PhaseName(phase)] = plan.step.time.phases[phase];
  }
  phases["telemetry"] = plan.MeasuringSeconds();
  phases["total"] = plan.step.time.Total();
  Json json = {{"config", std::string(source)},
               {"world", plan.world},
               {"device", plan.machine.device.name},
               {"devices_per_node", plan.machine.links.devices_per_node},
               {"parameters",
                {{"embedding", groups.embedding},
                 {"mixer", groups.mixer},
                 {"feed_forward", groups.feed_forward},
                 {"norms", groups.norms},
                 {"head", groups.head},
                 {"total", groups.total()}}},
               {"tokens", plan.Tokens()},
               {"tokens_per_step", plan.TokensPerStep()},
               {"flops_per_token", {{"causal", plan.causal_flops_per_token}, {"full", plan.full_flops_per_token}}},
               {"memory_bytes", MemoryJson(plan)},
               {"collectives", CollectivesJson(plan)},
               {"step_seconds", std::move(phases)},
               {"mesh", MeshJson(plan)},
               {"meshes", Json::array()}};
  for (const Plan& mesh : meshes) json["meshes"].push_back(MeshJson(mesh));
  return json.dump(2) + "\n";
}

}  // namespace isthmus
