#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <vector>

#include "launch/plan/plan_report.h"
#include "model/heads/heads.h"
#include "model/measure/measurement_memory.h"
#include "model/measure/spectrum_finder.h"

namespace isthmus {
namespace {

double Giga(double value) { return value / 1e9; }
double Giga(int64_t value) { return static_cast<double>(value) / 1e9; }
double Milli(double seconds) { return seconds * 1e3; }

// Writes 1234567 as "1,234,567".
std::string Grouped(int64_t value) {
  std::string text = absl::StrCat(value);
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

std::string MeshText(const proto::RunConfig& config) {
  std::string text = absl::StrCat("tensor ", config.mesh().tensor(), " × data ", config.mesh().data(), ", micro-batch ",
                                  config.batch().micro_batch());
  if (config.precision().recompute()) text += ", recompute";
  if (config.mesh().shard_optimizer() && config.mesh().data() > 1) text += ", sharded optimizer";
  if (config.mesh().sequence_parallel() && config.mesh().tensor() > 1) text += ", sequence parallel";
  return text;
}

void AddParameters(const Plan& plan, std::string& text) {
  const ParameterGroups& groups = plan.parameters;
  const auto row = [&](const char* name, int64_t count) {
    absl::StrAppendFormat(&text, "  %-28s %18s\n", name, Grouped(count));
  };
  text += "parameters\n";
  row("embedding", groups.embedding);
  row("mixers", groups.mixer);
  row("feed-forward", groups.feed_forward);
  row("norms", groups.norms);
  row(HeadShapeOf(plan.config.model()).in_embedding ? "head (the embedding)" : "head", groups.head);
  row("total", groups.total());
}

void AddEntries(const char* segment, const ArenaLayout& layout, std::string& text) {
  for (const ArenaLayout::Entry& entry : layout.entries()) {
    absl::StrAppendFormat(&text, "  %-12s %-40s %18s at %18s\n", segment, entry.name, Grouped(entry.bytes),
                          Grouped(entry.offset));
  }
}

void AddMemory(const Plan& plan, bool verbose, std::string& text) {
  const MemoryBytes bytes = plan.memory.bytes();
  const auto row = [&](const char* name, int64_t value) {
    absl::StrAppendFormat(&text, "  %-28s %18s   %8.3f GB\n", name, Grouped(value), Giga(value));
  };
  text += "memory of the rank that holds most, bytes\n";
  row("weights", bytes.weights);
  row("gradients", bytes.gradients);
  row("optimizer", bytes.optimizer);
  row("activations", bytes.activations);
  row("head and loss", bytes.head);
  row("head decomposition", bytes.decomposition);
  row("tokens", bytes.tokens);
  row("scratch", bytes.scratch);
  row("total", bytes.total());
  row("reserved for libraries", plan.machine.device.reserved_bytes);
  row("host: staged checkpoint", plan.staging_bytes);
  absl::StrAppend(&text, "  ", FitText(plan), "\n");
  if (!verbose) return;
  AddEntries("activations", plan.memory.activations, text);
  AddEntries("head", plan.memory.head, text);
  AddEntries("optimizer", plan.memory.optimizer, text);
  AddEntries("decompose", plan.memory.decomposition, text);
}

// Returns the sizes of a product, or nothing.
std::string SizesText(const OperatorCost& cost) {
  return cost.m > 0 ? absl::StrCat(cost.m, "×", cost.n, "×", cost.k) : "";
}

void AddCollectives(const Plan& plan, std::string& text) {
  const std::vector<PlannedCollectives> collectives = plan.Collectives();
  if (collectives.empty()) {
    text += "collectives: none\n";
    return;
  }
  absl::StrAppendFormat(&text, "collectives of a step\n  %-10s %-14s %-15s %-7s %6s %16s %10s %10s\n", "starts in",
                        "for", "kind", "group", "calls", "bytes each", "ms", "exposed ms");
  for (const auto& [call, calls, time] : collectives) {
    absl::StrAppendFormat(&text, "  %-10s %-14s %-15s %-7s %6d %16s %10.3f %10.3f\n", PhaseName(call.phase), call.place,
                          CollectiveName(call.kind), call.group, calls, Grouped(call.bytes), Milli(time.total_seconds),
                          Milli(time.exposed_seconds));
  }
}

// Operators that take next to nothing, as many of a head's factorisation, are added up.
void AddOperators(const Plan& plan, std::string& text) {
  absl::StrAppendFormat(&text, "operators of a step\n  %-10s %-14s %-20s %-18s %6s %14s %12s %10s\n", "phase", "for",
                        "operator", "m×n×k", "calls", "GFLOP each", "MB each", "ms");
  const double least = 1e-4 * plan.step.time.Total();
  int64_t small_calls = 0;
  double small_seconds = 0;
  for (const auto& [call, calls, seconds] : plan.Operators()) {
    if (seconds < least) {
      small_calls += calls;
      small_seconds += seconds;
      continue;
    }
    absl::StrAppendFormat(&text, "  %-10s %-14s %-20s %-18s %6d %14.3f %12.3f %10.3f\n", PhaseName(call.phase),
                          call.place, call.cost.name, SizesText(call.cost), calls, Giga(call.cost.flops),
                          call.cost.bytes / 1e6, Milli(seconds));
  }
  absl::StrAppendFormat(&text, "  %-66s %6d %38.3f\n", "others, of less than 0.01 % of a step each", small_calls,
                        Milli(small_seconds));
}

void AddTime(const Plan& plan, std::string& text) {
  const StepSeconds& phases = plan.step.time.phases;
  const auto row = [&](const char* name, double seconds) {
    absl::StrAppendFormat(&text, "  %-28s %12.3f ms  %5.1f %%\n", name, Milli(seconds),
                          100 * seconds / plan.step.time.Total());
  };
  text += "predicted time of a step\n";
  for (const StepPhase phase : kAllStepPhases) {
    if (phase == StepPhase::kData || phase == StepPhase::kTelemetry) continue;
    row(phase == StepPhase::kReduce ? "reduce, not hidden" : PhaseName(phase), phases[phase]);
  }
  row("total", plan.step.time.Total());
  if (plan.measuring) {
    absl::StrAppendFormat(&text,
                          "  a step that measures the head (every %d) takes %.3f ms more, and what the host takes to "
                          "factor the diagonal of %d×%d matrices\n",
                          plan.config.telemetry().interval(), Milli(plan.MeasuringSeconds()),
                          HeadShapeOf(plan.config.model()).width, HeadShapeOf(plan.config.model()).width);
    const MeasurementShape measured = MeasurementShape::Of(plan.config, 0, Device::kCpu);
    if (measured.sample_count() > kSpectrumWithinAStep) {
      absl::StrAppendFormat(
          &text, "  the spectrum of %d sampled tokens is found beside training, and reported later%s\n",
          measured.sample_count(),
          measured.sample_count() <= kLargestAwaitedSample ? "; the last step and a dumped one wait for it" : "");
    }
    if (!measured.HostFactorsWithinAStep()) {
      text += "  steps at which the head has not full rank, or a condition above 3e5, are not measured\n";
    }
  }
  absl::StrAppendFormat(
      &text,
      "  %s tokens/s; utilisation %.1f %% causal, %.1f %% full, of %.1f TFLOP/s per device\n"
      "  %s steps, %s tokens: %.1f hours, %.1f device hours\n",
      Grouped(static_cast<int64_t>(plan.TokensPerSecond())), 100 * plan.Utilisation(plan.causal_flops_per_token),
      100 * plan.Utilisation(plan.full_flops_per_token), plan.machine.device.peak_flops / 1e12,
      Grouped(plan.config.schedule().steps()), Grouped(plan.Tokens()), plan.Hours(), plan.Hours() * plan.world);
}

void AddMeshes(const Plan& plan, absl::Span<const Plan> meshes, std::string& text) {
  if (meshes.empty()) {
    absl::StrAppend(&text, "meshes of ", plan.world, ": none fits this device; use more ranks or a smaller batch\n");
    return;
  }
  absl::StrAppend(&text, "meshes of ", plan.world, ", the fastest that fit; * is this configuration's\n");
  const auto row = [&](const Plan& mesh, bool own) {
    absl::StrAppendFormat(&text, "%s %12.3f ms %14s tokens/s %8.2f GB  %s\n", own ? "*" : " ",
                          Milli(mesh.step.time.Total()), Grouped(static_cast<int64_t>(mesh.TokensPerSecond())),
                          Giga(mesh.RequiredBytes()), MeshText(mesh.config) + (mesh.Fits() ? "" : ", does not fit"));
  };
  bool listed = false;
  for (const Plan& mesh : meshes) {
    row(mesh, SameMesh(mesh, plan));
    listed |= SameMesh(mesh, plan);
  }
  if (!listed) row(plan, true);
}

}  // namespace

std::string FitText(const Plan& plan) {
  return absl::StrFormat("%s %.1f of %.1f GB", plan.Fits() ? "fits:" : "DOES NOT FIT:", Giga(plan.RequiredBytes()),
                         Giga(plan.machine.device.memory_bytes));
}

std::string PlanText(const Plan& plan, absl::Span<const Plan> meshes, absl::string_view source, bool verbose) {
  const LinkSpec& links = plan.machine.links;
  std::string text = absl::StrFormat(
      "%s on %d × %s, %s\n%d to a node; %.0f GB/s per device within it, %.1f GB/s per node between them, per "
      "direction\n\n",
      source, plan.world, plan.machine.device.name, MeshText(plan.config), links.devices_per_node,
      Giga(links.device_bytes), Giga(links.node_bytes));
  AddParameters(plan, text);
  text += "\n";
  AddMemory(plan, verbose, text);
  absl::StrAppendFormat(&text, "\nFLOPs per token: %.4e causal, %.4e full\n\n", plan.causal_flops_per_token,
                        plan.full_flops_per_token);
  AddCollectives(plan, text);
  text += "\n";
  if (verbose) {
    AddOperators(plan, text);
    text += "\n";
  }
  AddTime(plan, text);
  text += "\n";
  AddMeshes(plan, meshes, text);
  text += plan.machine.device.device == Device::kCuda
              ? "\nRates are parts of the data sheets' (launch/plan/machine.cc says which are assumptions); nothing "
                "was measured.\n"
              : "\nRates are parts of what this machine reached just now (launch/plan/machine.cc).\n";
  return text;
}

}  // namespace isthmus
