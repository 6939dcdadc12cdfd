
#include <iostream>
#include <string>
#include <vector>

#include "launch/commands.h"
#include "launch/commands/result_path.h"
#include "launch/options.h"
#include "launch/plan/machine_options.h"
#include "launch/plan/plan.h"
#include "launch/plan/plan_report.h"
#include "model/compute_type.h"
#include "runtime/config.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kMeshesShown = 6;

struct Arguments {
  std::string config, json;
  std::vector<std::string> overrides;
  MachineOptions machine{.device = "h100"};
  bool verbose = false;
};

Options PlanOptions(Arguments& arguments) {
  Options options("isthmus plan",
                  "Parameters, memory, collectives and predicted speed of a run, and better meshes for it. Needs no "
                  "GPU and opens no data. Options of links below 0 keep the device's own.");
  options.Add("config", "FILE", "run configuration, text format of proto/config.proto", &arguments.config, true)
      .Add("set", "PATH=VALUE", "override a field, for example mesh.tensor=2", &arguments.overrides);
  arguments.machine.AddTo(options);
  options.Add("json", "FILE", "write the plan there too, as one JSON object", &arguments.json)
      .Add("verbose", "", "every tensor and operator by name", &arguments.verbose);
  return options;
}

}  // namespace

absl::Status PlanCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  Arguments given;
  Options options = PlanOptions(given);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (!given.json.empty()) {
    ISTHMUS_RETURN_IF_ERROR(CheckResultPath("--json", given.json, {.files = {given.config}, .folders = {}}));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const proto::RunConfig config, LoadConfig(given.config, given.overrides));
  ISTHMUS_ASSIGN_OR_RETURN(const int world, given.machine.WorldOf(config, given.config));
  ISTHMUS_ASSIGN_OR_RETURN(const Machine machine, given.machine.MachineOf(ComputeType(config.precision()), world));
  ISTHMUS_ASSIGN_OR_RETURN(const Plan plan, MakePlan(config, machine, world, given.config));
  const std::vector<Plan> meshes = BestMeshes(plan, kMeshesShown);
  // If the object goes to standard output, nothing else may go there.
  std::ostream& says = !given.json.empty() && IsStandardOutput(given.json) ? std::cerr : out;
  if (!given.json.empty()) {
    ISTHMUS_RETURN_IF_ERROR(WriteDurably(given.json, PlanJson(plan, meshes, given.config), FileOwner::kUser));
  }
  says << PlanText(plan, meshes, given.config, given.verbose);
  return absl::OkStatus();
}

}  // namespace isthmus
