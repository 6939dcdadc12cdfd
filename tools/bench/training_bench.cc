// Speed of whole training steps: tokens per second, time by phase, and a utilisation. That is the ratio of the step's
// floating-point operations (causal convention, DESIGN section 7) to the matrix-product peak. The peak is measured in
// the same run on the same device. The head's own ratio is that of its products to the time of the phase `head`, which
// also holds the loss.
//
// Each timed step is between two that measure their heads (model/measure/head_decomposition.h). The cost of measuring
// is the difference of the fastest step of either kind. Beside it stand the phase `telemetry` and the time of the
// product WᵀW alone.
//
//   training_bench                               one rank, all its threads
//   mpirun -n 2 training_bench                   the quickstart's mesh
//   training_bench --device=cuda                 a model of 2 billion parameters in bf16 on a GPU
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/time/time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "launch/choose_device.h"
#include "launch/options.h"
#include "model/compute_type.h"
#include "model/measure/head_decomposition.h"
#include "model/model.h"
#include "model/train/training_model.h"
#include "ops/gram.h"
#include "ops/matmul_peak.h"
#include "parallel/mesh.h"
#include "runtime/durable_file.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"
#include "runtime/step_phase.h"

namespace isthmus {
namespace {

struct Case {
  proto::ModelConfig model;
  int64_t sequence_length, sequences, micro_batch, loss_chunk;
  bool fp32;  // measured in fp32 too, unless bf16 is asked for
};

proto::ModelConfig Llama(int64_t vocabulary, int64_t width, int64_t layers, int64_t heads, int64_t kv_heads,
                         int64_t feed_forward) {
  proto::ModelConfig model;
  model.set_vocabulary(vocabulary);
  model.set_width(width);
  model.set_layers(layers);
  model.set_heads(heads);
  model.set_kv_heads(kv_heads);
  model.set_head_dim(width / heads);
  model.set_feed_forward(feed_forward);
  return model;
}

const std::map<std::string, Case>& Cases() {
  static const auto* const cases = new std::map<std::string, Case>{
      {"tiny", {Llama(300, 64, 2, 2, 2, 64), 16, 2, 2, 512, true}},
      {"quickstart", {Llama(4096, 256, 4, 4, 2, 704), 256, 16, 16, 512, true}},
      {"gpt2-small", {Llama(50257, 768, 12, 12, 12, 2048), 1024, 4, 4, 512, true}},
      {"2b", {Llama(49152, 4096, 6, 32, 32, 16384), 4096, 16, 4, 4096, false}},
  };
  return *cases;
}

struct Request {
  std::string device = "cpu", precision = "all";
  std::vector<std::string> models;
  int64_t steps = 3;
  int64_t sequences = 0, micro_batch = 0;  // 0: the model's own
  std::string json;
};

proto::RunConfig ConfigOf(const Case& test, proto::PrecisionConfig::Kind precision, int tensor_ranks) {
  proto::RunConfig config;
  *config.mutable_model() = test.model;
  config.mutable_data()->set_sequence_length(test.sequence_length);
  config.mutable_mesh()->set_tensor(tensor_ranks);
  config.mutable_mesh()->set_data(1);
  config.mutable_batch()->set_sequences(test.sequences);
  config.mutable_batch()->set_micro_batch(test.micro_batch);
  config.mutable_precision()->set_compute(precision);
  config.mutable_precision()->set_loss_chunk(test.loss_chunk);
  config.mutable_optimizer()->set_learning_rate(1e-4);
  return config;
}

// The cost of measuring the head. A run that measures every step finds the head's singular values at one step of ten. A
// run that measures every ten steps finds them at each of those. With a wide head the step only begins to.
struct Measuring {
  double step_seconds = 0;           // of the fastest step that measures
  double telemetry_seconds = 0;      // of its phase `telemetry`
  double spectrum_step_seconds = 0;  // of the fastest one that finds the singular values too, or begins to
  double gram_seconds = 0;           // of WᵀW alone, of this rank's rows
  HeadDecomposition::Seconds fixed;  // of the fastest step that measures: the part that does not grow with the tokens
};

nlohmann::json ReportMeasuring(const Measuring& measuring, double step) {
  const double added = measuring.step_seconds - step, with_spectrum = measuring.spectrum_step_seconds - step;
  const double every_step = (9 * added + with_spectrum) / 10;
  const auto percent = [&](double seconds) { return 100 * seconds / step; };
  std::printf("%s\n",
              absl::StrFormat("%11s measuring the head adds %.3f s = %.1f %% of a step (phase telemetry %.3f s), with "
                              "the singular values %.3f s; WᵀW alone %.3f s = %.1f %%: every step %.1f %% more than "
                              "WᵀW, every 10 steps %.2f %%",
                              "", added, percent(added), measuring.telemetry_seconds, with_spectrum,
                              measuring.gram_seconds, percent(measuring.gram_seconds),
                              percent(every_step - measuring.gram_seconds), percent(with_spectrum / 10))
                  .c_str());
  const HeadDecomposition::Seconds& fixed = measuring.fixed;
  std::printf("%s\n",
              absl::StrFormat("%11s of it, whatever the tokens: projector %.1f ms, layers %.1f ms, update %.1f ms, "
                              "parts of the vocabulary %.1f ms, sample %.1f ms, figures %.1f ms",
                              "", 1e3 * fixed.projector, 1e3 * fixed.layers, 1e3 * fixed.update, 1e3 * fixed.parts,
                              1e3 * fixed.sample, 1e3 * fixed.figures)
                  .c_str());
  std::fflush(stdout);
  return {{"measured_step_seconds", measuring.step_seconds},
          {"measuring_adds_seconds", added},
          {"measuring_adds_with_singular_values_seconds", with_spectrum},
          {"telemetry_seconds", measuring.telemetry_seconds},
          {"projector_seconds", fixed.projector},
          {"layers_seconds", fixed.layers},
          {"update_seconds", fixed.update},
          {"parts_seconds", fixed.parts},
          {"sample_seconds", fixed.sample},
          {"figures_seconds", fixed.figures},
          {"gram_product_seconds", measuring.gram_seconds},
          {"every_step_adds_ratio", every_step / step},
          {"every_step_adds_ratio_beyond_gram_product", (every_step - measuring.gram_seconds) / step},
          {"every_10_steps_add_ratio", with_spectrum / step / 10}};
}

// Returns the seconds of the product WᵀW of this rank's rows of the head, the faster of two.
absl::StatusOr<double> GramSeconds(TrainingModel& model, Stream& stream) {
  const Tensor weight = model.loss().View()->weight;
  ISTHMUS_ASSIGN_OR_RETURN(const Arena arena,
                           Arena::Allocate("Gram", weight.columns * weight.columns * 12, stream.device()));
  const Tensor gram = arena.At(0, DType::kFloat64, weight.columns, weight.columns);
  const Tensor workspace = arena.At(gram.bytes(), DType::kFloat32, weight.columns, weight.columns);
  double best = 0;
  for (int i = 0; i < 2; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ISTHMUS_RETURN_IF_ERROR(Gram({.x = weight, .y = weight, .c = gram, .workspace = workspace}, stream));
    ISTHMUS_RETURN_IF_ERROR(stream.Synchronize());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = i == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

// Prints one line; returns the same figures.
nlohmann::json Report(const std::string& name, const Case& test, proto::PrecisionConfig::Kind precision,
                      const ChosenDevice& device, int ranks, const std::vector<double>& step_seconds,
                      const StepSeconds& phases, double peak) {
  double elapsed = 0;
  for (const double seconds : step_seconds) elapsed += seconds;
  const auto steps = static_cast<double>(step_seconds.size());
  const auto tokens = static_cast<double>(test.sequences * test.sequence_length);
  const double flops_per_token = FlopsPerToken(ConfigOf(test, precision, ranks), /*causal=*/true);
  const double flops = flops_per_token * tokens * steps / elapsed;
  const double head_flops = 6.0 * static_cast<double>(test.model.width() * test.model.vocabulary()) * tokens * steps /
                            phases[StepPhase::kHead];
  const auto share = [&](double seconds) { return 100 * seconds / elapsed; };
  const char* type = precision == proto::PrecisionConfig::BF16 ? "bf16" : "fp32";
  std::printf("%s\n",
              absl::StrFormat("%-11s %-4s ranks %d  %8.0f tokens/s  %7.1f of %7.1f GFLOP/s = %4.1f %%  step %.3f s: "
                              "forward %.0f %%, head %.0f %% (at %.1f %% of peak), backward %.0f %%, reduce %.0f %%, "
                              "optimizer %.0f %%",
                              name, type, ranks, tokens * steps / elapsed, flops / 1e9, peak / 1e9, 100 * flops / peak,
                              elapsed / steps, share(phases[StepPhase::kForward]), share(phases[StepPhase::kHead]),
                              100 * head_flops / peak, share(phases[StepPhase::kBackward]),
                              share(phases[StepPhase::kReduce]), share(phases[StepPhase::kOptimizer]))
                  .c_str());
  std::fflush(stdout);
  nlohmann::json row = {{"system", "isthmus"},
                        {"model", name},
                        {"dtype", type},
                        {"device", device.name},
                        {"ranks", ranks},
                        {"sequences", test.sequences},
                        {"sequence_length", test.sequence_length},
                        {"micro_batch", test.micro_batch},
                        {"tokens_per_second", tokens * steps / elapsed},
                        {"step_seconds", step_seconds},
                        {"causal_flops_per_token", flops_per_token},
                        {"gigaflops_per_second", flops / 1e9},
                        {"measured_peak_gigaflops_per_second", peak / 1e9},
                        {"causal_ratio_to_measured_peak", flops / peak},
                        {"head_ratio_to_measured_peak", head_flops / peak},
                        {"forward_seconds", phases[StepPhase::kForward] / steps},
                        {"head_seconds", phases[StepPhase::kHead] / steps},
                        {"backward_seconds", phases[StepPhase::kBackward] / steps},
                        {"reduce_seconds", phases[StepPhase::kReduce] / steps},
                        {"optimizer_seconds", phases[StepPhase::kOptimizer] / steps}};
  if (device.peak_flops > 0) row["causal_utilisation_ratio"] = flops / (device.peak_flops * ranks);
  return row;
}

// Returns tokens by chance, as many as a step has.
std::vector<int32_t> TokensOf(const Case& test) {
  std::vector<int32_t> ids(static_cast<size_t>(test.sequences * test.sequence_length));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(Philox::Words(1, RandomPurpose::kTest, 0, i)[0] %
                                  static_cast<uint32_t>(test.model.vocabulary()));
  }
  return ids;
}

// Measures the peak of products of this type on all ranks at once, in FLOP per second of all. Matrices are no larger
// than a case of this width has.
absl::StatusOr<double> MeasurePeak(DType type, int64_t width, Stream& stream, Communicator& world) {
  ISTHMUS_RETURN_IF_ERROR(world.Barrier());
  const int64_t size = std::min(MatmulPeakSize(stream.device(), type), 16 * width);
  ISTHMUS_ASSIGN_OR_RETURN(double rate, MeasureMatmulPeak(type, absl::Milliseconds(200), stream, size));
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&rate, 1)));
  ISTHMUS_RETURN_IF_ERROR(world.Barrier());
  return rate;
}

absl::StatusOr<nlohmann::json> RunCase(const std::string& name, const Case& test,
                                       proto::PrecisionConfig::Kind precision, int64_t steps, ChosenDevice& device,
                                       Communicator& world) {
  Stream& stream = device.stream;
  ISTHMUS_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(world, world.size(), 1, stream));
  const proto::RunConfig config = ConfigOf(test, precision, world.size());
  ISTHMUS_ASSIGN_OR_RETURN(const auto decomposition, HeadDecomposition::Create(config, mesh, stream));
  ISTHMUS_ASSIGN_OR_RETURN(auto model, TrainingModel::Create(config, mesh, stream, decomposition.get()));
  ISTHMUS_RETURN_IF_ERROR(model->InitializeWeights(1));
  std::vector<int32_t> ids = TokensOf(test);
  const auto tokens = static_cast<int64_t>(ids.size());
  const Tensor batch(ids.data(), DType::kInt32, 1, tokens);
  // Libraries prepare all that they need in one micro-batch that is the last of its step and one that isn't.
  const Tensor beginning = batch.ColumnSlice(0, std::min(tokens, 2 * test.micro_batch * test.sequence_length));
  double peak = 0;
  StepSeconds phases;
  std::vector<double> step_seconds;
  Measuring measuring;
  const auto train = [&](int64_t number, bool measure, double& seconds) {
    const Tensor& trained = number < 10 ? beginning : batch;
    const auto start = std::chrono::steady_clock::now();
    auto result =
        model->Step({.ids = trained, .targets = trained, .step = number, .learning_rate = 1e-4, .measure = measure});
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
  };
  // One round, of short steps, warms up. The peak is measured between the rounds, on all ranks at once.
  for (int64_t step = 0; step <= steps; ++step) {
    // The first measured step of a ten finds the head's singular values. If no thread is at those of the one before, it
    // only begins to find them. The second doesn't.
    while (decomposition->finding()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ISTHMUS_ASSIGN_OR_RETURN(const double rate,
                             MeasurePeak(model->parameters().compute_type(), test.model.width(), stream, world));
    peak = std::max(peak, rate);
    const int64_t number = 10 * step + 1;
    double seconds = 0, spectrum_seconds = 0, measured_seconds = 0;
    // The step that measures nothing is between the others, so that a device that grows warm favours neither.
    ISTHMUS_RETURN_IF_ERROR(train(number, true, spectrum_seconds).status());
    ISTHMUS_RETURN_IF_ERROR(world.Barrier());
    ISTHMUS_ASSIGN_OR_RETURN(const StepResult result, train(number + 1, false, seconds));
    ISTHMUS_RETURN_IF_ERROR(world.Barrier());
    ISTHMUS_ASSIGN_OR_RETURN(const StepResult measured, train(number + 2, true, measured_seconds));
    if (step == 0) continue;
    step_seconds.push_back(seconds);
    phases += result.seconds;
    if (step == 1 || spectrum_seconds < measuring.spectrum_step_seconds) {
      measuring.spectrum_step_seconds = spectrum_seconds;
    }
    if (step > 1 && measured_seconds >= measuring.step_seconds) continue;
    measuring.step_seconds = measured_seconds;
    measuring.telemetry_seconds = measured.seconds[StepPhase::kTelemetry];
    measuring.fixed = decomposition->seconds();
  }
  ISTHMUS_ASSIGN_OR_RETURN(measuring.gram_seconds, GramSeconds(*model, stream));
  if (world.rank() != 0) return nlohmann::json();
  nlohmann::json row = Report(name, test, precision, device, world.size(), step_seconds, phases, peak);
  row.update(ReportMeasuring(measuring, *std::min_element(step_seconds.begin(), step_seconds.end())));
  return row;
}

absl::Status Check(Request& request) {
  if (request.device != "cpu" && request.device != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat("--device: found \"", request.device, "\"; accepts cpu, cuda"));
  }
  if (request.precision != "all" && request.precision != "fp32" && request.precision != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision: found \"", request.precision, "\"; accepts all, fp32, bf16"));
  }
  if (request.models.empty()) {
    request.models = request.device == "cuda" ? std::vector<std::string>{"2b"}
                                              : std::vector<std::string>{"quickstart", "gpt2-small"};
  }
  for (const std::string& model : request.models) {
    if (Cases().count(model) > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--model: found \"", model, "\"; accepts ",
                     absl::StrJoin(Cases(), ", ", [](std::string* out, const auto& known) { *out += known.first; })));
  }
  if (request.steps < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--steps: found ", request.steps, "; accepts 1 or more"));
  }
  return absl::OkStatus();
}

absl::Status Run(const Request& request) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto runtime, MpiRuntime::Initialize());
  const auto world = runtime->World();
  SetThreads(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / runtime->local_size()));
  ISTHMUS_ASSIGN_OR_RETURN(ChosenDevice device,
                           ChooseDevice(request.device == "cuda" ? proto::CUDA : proto::CPU,
                                        proto::PrecisionConfig::BF16, runtime->local_rank(), *world, "training_bench"));
  nlohmann::json rows = nlohmann::json::array();
  for (const std::string& name : request.models) {
    Case test = Cases().at(name);
    if (request.sequences > 0) test.sequences = request.sequences;
    if (request.micro_batch > 0) test.micro_batch = request.micro_batch;
    for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
      const bool fp32 = precision == proto::PrecisionConfig::FP32;
      if (request.precision == "all" ? fp32 && !test.fp32 : fp32 != (request.precision == "fp32")) continue;
      ISTHMUS_ASSIGN_OR_RETURN(nlohmann::json row, RunCase(name, test, precision, request.steps, device, *world));
      rows.push_back(std::move(row));
    }
  }
  for (const std::string& note : device.stream.TakeNotes()) std::printf("%s\n", note.c_str());
  if (world->rank() != 0 || request.json.empty()) return absl::OkStatus();
  return WriteDurably(request.json, rows.dump(1) + "\n", FileOwner::kUser);
}

absl::Status Main(const std::vector<std::string>& arguments) {
  Request request;
  Options options("training_bench", "Measures whole training steps. Start it alone or under mpirun.");
  options.Add("device", "DEVICE", "cpu, or cuda: one GPU to a rank", &request.device)
      .Add(
          "model", "MODEL",
          "tiny, quickstart, gpt2-small or 2b; may be repeated; without: quickstart and gpt2-small on the CPU, 2b on a "
          "GPU",
          &request.models)
      .Add("precision", "TYPE", "fp32, bf16 or all; 2b is in bf16 unless fp32 is asked for", &request.precision)
      .Add("steps", "N", "steps of each kind that are timed, after short ones that are not", &request.steps)
      .Add("sequences", "N", "sequences of a step; 0: the model's own number", &request.sequences)
      .Add("micro-batch", "N", "sequences of a pass; 0: the model's own number", &request.micro_batch)
      .Add("json", "FILE", "also write the figures there", &request.json);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    std::fputs(options.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  ISTHMUS_RETURN_IF_ERROR(Check(request));
  return Run(request);
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  const absl::Status status = isthmus::Main(std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 4;
}
