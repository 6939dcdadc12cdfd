// A plan beside the truth. It shows the step time that `isthmus plan --device cpu` predicts for a configuration, by
// phase. Beside it stands the time that steps of a real model take on this machine.
//
//   plan_bench CONFIG [PATH=VALUE...]                    one rank, all threads
//   mpirun -n 2 plan_bench CONFIG [PATH=VALUE...]        several ranks of this machine
//
// The machine is measured on all ranks at once, just before the steps. Tokens are random, so no data is opened.
#include <absl/strings/str_format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "launch/plan/plan.h"
#include "launch/threads.h"
#include "model/compute_type.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "runtime/config.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"
#include "runtime/step_phase.h"

namespace isthmus {
namespace {

constexpr int64_t kSteps = 3;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void Print(const Plan& plan, const std::string& source, const StepSeconds& measured, double total, double noise) {
  std::printf("%s\n", absl::StrFormat("%s, %s, tensor %d × data %d, %d threads each: %.1f GFLOP/s product peak", source,
                                      proto::PrecisionConfig::Kind_Name(plan.config.precision().compute()),
                                      plan.config.mesh().tensor(), plan.config.mesh().data(), MaxThreads(),
                                      plan.machine.device.peak_flops / 1e9)
                          .c_str());
  const auto row = [](const char* name, double predicted, double found) {
    std::printf("%s\n", absl::StrFormat("  %-10s predicted %9.4f s   measured %9.4f s   predicted / measured %5.2f",
                                        name, predicted, found, found > 0 ? predicted / found : 0)
                            .c_str());
  };
  const StepSeconds& predicted = plan.step.time.phases;
  const auto mean = [](double sum) { return sum / static_cast<double>(kSteps); };
  for (const StepPhase phase : kAllStepPhases) {
    if (phase == StepPhase::kData || phase == StepPhase::kTelemetry) continue;
    row(PhaseName(phase), predicted[phase], mean(measured[phase]));
  }
  row("step", plan.step.time.Total(), mean(total));
  std::printf("%s\n",
              absl::StrFormat("  %d steps, slowest / fastest %.2f; %.0f tokens/s predicted, %.0f measured", kSteps,
                              noise, plan.TokensPerSecond(), static_cast<double>(plan.TokensPerStep()) / mean(total))
                  .c_str());
}

absl::Status Run(const std::string& source, const std::vector<std::string>& overrides) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto runtime, MpiRuntime::Initialize());
  const auto world = runtime->World();
  SetThreads(ThreadsPerRank(runtime->local_size()));
  ISTHMUS_ASSIGN_OR_RETURN(const proto::RunConfig config, LoadConfig(source, overrides));
  ISTHMUS_RETURN_IF_ERROR(world->Barrier());
  ISTHMUS_ASSIGN_OR_RETURN(const Machine machine, MeasureCpuMachine(ComputeType(config.precision()), 1, world->size()));
  ISTHMUS_ASSIGN_OR_RETURN(const Plan plan, MakePlan(config, machine, world->size(), source));

  ISTHMUS_ASSIGN_OR_RETURN(const Mesh mesh,
                           Mesh::Create(*world, plan.config.mesh().tensor(), plan.config.mesh().data()));
  Stream stream;
  ISTHMUS_ASSIGN_OR_RETURN(const auto model, TrainingModel::Create(plan.config, mesh, stream));
  ISTHMUS_RETURN_IF_ERROR(model->InitializeWeights(1));
  std::vector<int32_t> ids(static_cast<size_t>(plan.config.batch().sequences() * plan.config.data().sequence_length()));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(Philox::Words(1, RandomPurpose::kTest, 0, i)[0] %
                                  static_cast<uint32_t>(plan.config.model().vocabulary()));
  }
  const Tensor batch(ids.data(), DType::kInt32, 1, static_cast<int64_t>(ids.size()));
  StepSeconds phases;
  double total = 0, fastest = 1e30, slowest = 0;
  for (int64_t step = 0; step <= kSteps; ++step) {  // the first one warms up
    ISTHMUS_RETURN_IF_ERROR(world->Barrier());
    const double start = Seconds();
    ISTHMUS_ASSIGN_OR_RETURN(const StepResult result,
                             model->Step({.ids = batch, .targets = batch, .step = step + 1, .learning_rate = 1e-4}));
    const double seconds = Seconds() - start;
    if (step == 0) continue;
    total += seconds;
    fastest = std::min(fastest, seconds);
    slowest = std::max(slowest, seconds);
    phases += result.seconds;
  }
  if (world->rank() == 0) Print(plan, source, phases, total, slowest / fastest);
  return absl::OkStatus();
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: plan_bench CONFIG [PATH=VALUE...]\n");
    return 2;
  }
  const absl::Status status = isthmus::Run(argv[1], {argv + 2, argv + argc});
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 4;
}
