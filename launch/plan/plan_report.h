// Writes a plan to read, and a plan for programs.
#ifndef ISTHMUS_LAUNCH_PLAN_PLAN_REPORT_H_
#define ISTHMUS_LAUNCH_PLAN_PLAN_REPORT_H_

#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <string>

#include "launch/plan/plan.h"

namespace isthmus {

// Returns whether the plan fits the device: "fits: 71.3 of 80.0 GB", or "DOES NOT FIT: …".
std::string FitText(const Plan& plan);

// `source` is the configuration's file. `meshes` are other meshes, the best first. `verbose` lists every tensor in
// memory and every operator.
std::string PlanText(const Plan& plan, absl::Span<const Plan> meshes, absl::string_view source, bool verbose);

// Returns one JSON object: parameters, memory_bytes, flops_per_token, collectives, step_seconds, prediction, meshes.
// Bytes are exact, times in seconds.
std::string PlanJson(const Plan& plan, absl::Span<const Plan> meshes, absl::string_view source);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_PLAN_PLAN_REPORT_H_
