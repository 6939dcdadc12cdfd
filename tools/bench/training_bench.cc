// Speed of whole training steps: tokens per second, time by phase, and the ratio of the step's floating-point
// operations (causal convention, DESIGN section 7) to the matrix-product peak measured in the same run.
//
//   training_bench [steps]                       one rank, all its threads
//   mpirun -n 2 training_bench [steps]           the quickstart's mesh
#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>
#include <absl/time/time.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "model/flops.h"
#include "model/training_model.h"
#include "ops/matmul_peak.h"
#include "parallel/mesh.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

struct Case {
  const char* name;
  ModelShape shape;
  int64_t sequence_length, sequences, micro_batch;
};

ModelShape Shape(int64_t vocabulary, int64_t width, int64_t layers, int64_t heads, int64_t kv_heads,
                 int64_t feed_forward) {
  ModelShape shape;
  shape.vocabulary = vocabulary;
  shape.width = width;
  shape.layers = layers;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = width / heads;
  shape.feed_forward = feed_forward;
  return shape;
}

proto::RunConfig ConfigOf(const Case& test, proto::PrecisionConfig::Kind precision, int tensor_ranks) {
  proto::RunConfig config;
  auto& model = *config.mutable_model();
  model.set_vocabulary(test.shape.vocabulary);
  model.set_width(test.shape.width);
  model.set_layers(test.shape.layers);
  model.set_heads(test.shape.heads);
  model.set_kv_heads(test.shape.kv_heads);
  model.set_head_dim(test.shape.head_dim);
  model.set_feed_forward(test.shape.feed_forward);
  config.mutable_data()->set_sequence_length(test.sequence_length);
  config.mutable_mesh()->set_tensor(tensor_ranks);
  config.mutable_mesh()->set_data(1);
  config.mutable_batch()->set_sequences(test.sequences);
  config.mutable_batch()->set_micro_batch(test.micro_batch);
  config.mutable_precision()->set_compute(precision);
  config.mutable_optimizer()->set_learning_rate(1e-4);
  return config;
}

absl::Status RunCase(const Case& test, proto::PrecisionConfig::Kind precision, int64_t steps, Communicator& world) {
  Stream stream;
  ISTHMUS_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(world, world.size(), 1));
  ISTHMUS_ASSIGN_OR_RETURN(auto model, TrainingModel::Create(ConfigOf(test, precision, world.size()), mesh, stream));
  ISTHMUS_RETURN_IF_ERROR(model->InitializeWeights(1));
  const int64_t tokens = test.sequences * test.sequence_length;
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(Philox::Words(1, RandomPurpose::kTest, 0, i)[0] %
                                  static_cast<uint32_t>(test.shape.vocabulary));
  }
  const Tensor batch(ids.data(), DType::kInt32, 1, tokens);
  double peak = 0;
  StepSeconds phases;
  double elapsed = 0;
  // One step warms up; the peak is measured between the steps, on all ranks at once.
  for (int64_t step = 0; step <= steps; ++step) {
    ISTHMUS_RETURN_IF_ERROR(world.Barrier());
    double rate = 0;
    ISTHMUS_ASSIGN_OR_RETURN(rate,
                             MeasureMatmulPeak(model->parameters().compute_type(), absl::Milliseconds(200), stream));
    ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&rate, 1)));
    peak = std::max(peak, rate);
    ISTHMUS_RETURN_IF_ERROR(world.Barrier());
    const auto start = std::chrono::steady_clock::now();
    ISTHMUS_ASSIGN_OR_RETURN(const StepResult result, model->Step(batch, batch, step + 1, 1e-4, false));
    if (step == 0) continue;
    elapsed += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    phases.forward += result.seconds.forward;
    phases.head += result.seconds.head;
    phases.backward += result.seconds.backward;
    phases.reduce += result.seconds.reduce;
    phases.optimizer += result.seconds.optimizer;
  }
  if (world.rank() != 0) return absl::OkStatus();
  const double per_step = elapsed / static_cast<double>(steps);
  const double flops = CausalFlopsPerToken(test.shape, test.sequence_length) * static_cast<double>(tokens) / per_step;
  const auto share = [&](double seconds) { return 100 * seconds / elapsed; };
  std::printf("%s\n",
              absl::StrFormat("%-11s %-4s ranks %d  %8.0f tokens/s  %7.1f of %7.1f GFLOP/s = %4.1f %%  step %.3f s: "
                              "forward %.0f %%, head %.0f %%, backward %.0f %%, reduce %.0f %%, optimizer %.0f %%",
                              test.name, precision == proto::PrecisionConfig::BF16 ? "bf16" : "fp32", world.size(),
                              static_cast<double>(tokens) / per_step, flops / 1e9, peak / 1e9, 100 * flops / peak,
                              per_step, share(phases.forward), share(phases.head), share(phases.backward),
                              share(phases.reduce), share(phases.optimizer))
                  .c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status Run(int64_t steps) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto runtime, MpiRuntime::Initialize());
  const auto world = runtime->World();
  SetThreads(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / runtime->local_size()));
  const Case cases[] = {{"quickstart", Shape(4096, 256, 4, 4, 2, 704), 256, 16, 16},
                        {"gpt2-small", Shape(50257, 768, 12, 12, 12, 2048), 1024, 4, 4}};
  for (const Case& test : cases) {
    for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
      ISTHMUS_RETURN_IF_ERROR(RunCase(test, precision, steps, *world));
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  int64_t steps = 3;
  if (argc > 1 && (!absl::SimpleAtoi(argv[1], &steps) || steps < 1)) {
    std::fprintf(stderr, "usage: training_bench [steps]\n");
    return 2;
  }
  const absl::Status status = isthmus::Run(steps);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 4;
}
