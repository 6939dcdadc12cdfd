// Cost of LM heads: seconds of the head and its loss per token, forward and backward, beside those of the full head of
// the same sizes in the same run. The matrix-product peak of the device, measured between the heads, is the limit of
// both. A step trains one micro-batch, with targets that are frequent and rare as in text, through the head alone.
//
//   heads_bench                        all heads at the quickstart's sizes, one rank, all its threads
//   heads_bench --size=2b              V 49,152, D 4,096
//   mpirun -n 2 heads_bench            the vocabulary on two ranks
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/time/time.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
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
#include "model/head_clusters.h"
#include "model/heads/heads.h"
#include "model/model.h"
#include "ops/matmul_peak.h"
#include "parallel/mesh.h"
#include "runtime/config_rules.h"
#include "runtime/data/token_tables.h"
#include "runtime/device.h"
#include "runtime/durable_file.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

struct HeadSize {
  int64_t vocabulary, width, tokens, chunk;
};

const std::map<std::string, HeadSize>& HeadSizes() {
  static const auto* const sizes = new std::map<std::string, HeadSize>{
      {"tiny", {300, 64, 64, 32}},
      {"quickstart", {4096, 256, 4096, 512}},
      {"2b", {49152, 4096, 2048, 2048}},
  };
  return *sizes;
}

// Returns the heads of a vocabulary, as texts of model.head. The first is the one that others are compared with.
std::vector<std::string> HeadsOf(const HeadSize& size) {
  const int64_t root = std::max<int64_t>(1, std::llround(std::sqrt(static_cast<double>(size.vocabulary))));
  return {
      "kind: 'full'",
      absl::StrCat("kind: 'factorised' rank: ", size.width / 4),
      absl::StrCat("kind: 'cluster' clusters { kind: 'random' count: ", root, " }"),
      absl::StrCat("kind: 'hierarchical' clusters { kind: 'random' count: ", root, " }"),
      "kind: 'hierarchical' clusters { kind: 'frequency' count: 4 }",
      "kind: 'copy'",
      absl::StrCat("kind: 'sampled' sampled { classes: ", size.vocabulary / 4, " }"),
      "kind: 'contrastive'",
      "kind: 'wide' expansion: 2",
      "kind: 'mixture' mixture { count: 4 }",
      absl::StrCat("kind: 'full' backward { kind: 'rank' rank: ", size.width / 2, " interval: 10 }"),
      "kind: 'full' backward { kind: 'random' }",
      "kind: 'full' future { weights: [0.5, 0.25] }",
  };
}

struct HeadsRequest {
  std::string device = "cpu", precision = "fp32", size = "quickstart";
  std::vector<std::string> heads;
  int64_t steps = 5;
  std::string json;
};

absl::StatusOr<proto::RunConfig> HeadConfigOf(const HeadSize& size, const std::string& head,
                                              proto::PrecisionConfig::Kind precision, int ranks) {
  proto::RunConfig config;
  proto::ModelConfig& model = *config.mutable_model();
  model.set_vocabulary(size.vocabulary);
  model.set_width(size.width);
  model.set_layers(1);
  model.set_heads(1);
  model.set_kv_heads(1);
  model.set_head_dim(64);
  model.set_feed_forward(int64_t{64} * ranks);
  if (!google::protobuf::TextFormat::MergeFromString(head, model.mutable_head())) {
    return absl::InvalidArgumentError(absl::StrCat("--head: found \"", head, "\"; accepts text of model.head"));
  }
  model.set_tied_embeddings(model.head().kind() == "tied" || model.head().kind() == "contrastive");
  ISTHMUS_RETURN_IF_ERROR(CheckHead(model, "--head"));
  ConfigRules rules("--head");
  CheckClusterSource(config, rules);
  CheckClusterCount(model, rules);
  ISTHMUS_RETURN_IF_ERROR(rules.status());
  config.mutable_mesh()->set_tensor(ranks);
  config.mutable_mesh()->set_data(1);
  config.mutable_data()->set_sequence_length(size.tokens);
  config.mutable_batch()->set_sequences(1);
  config.mutable_batch()->set_micro_batch(1);
  config.mutable_precision()->set_compute(precision);
  config.mutable_precision()->set_loss_chunk(size.chunk);
  return config;
}

struct HeadCost {
  double seconds = 0;  // of the fastest step
  double flops = 0;    // of a step
  int64_t bytes = 0;   // of the head and the loss on this rank, without parameters
};

absl::StatusOr<HeadCost> MeasureHead(const proto::RunConfig& config, int64_t steps, const Mesh& mesh, Stream& stream) {
  const int64_t tokens = config.data().sequence_length(), vocabulary = config.model().vocabulary();
  std::vector<int32_t> targets;
  TokenTables tables;
  tables.counts.assign(static_cast<size_t>(vocabulary), 0);
  for (int64_t n = 0; n < tokens; ++n) {
    const double u = Philox::Uniform(1, RandomPurpose::kTest, 0, static_cast<uint64_t>(n));
    targets.push_back(static_cast<int32_t>(u * u * static_cast<double>(vocabulary)));
    ++tables.counts[static_cast<size_t>(targets.back())];
  }
  ISTHMUS_ASSIGN_OR_RETURN(tables.clusters, MakeClusters(config, vocabulary, tables.counts));
  ISTHMUS_ASSIGN_OR_RETURN(const auto model, Model::Build(config, mesh, stream, Purpose::Training(config), tables));
  ISTHMUS_RETURN_IF_ERROR(model->parameters().Initialize(1));
  ChunkedLoss& loss = model->loss();
  const Tensor host = loss.StepTargets(1, Tensor(targets.data(), DType::kInt32, 1, tokens));
  ISTHMUS_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate("targets", host.bytes(), stream));
  const Tensor on_device = arena.At(0, DType::kInt32, host.rows, tokens), ids = on_device.RowSlice(0, 1);
  ISTHMUS_RETURN_IF_ERROR(CopyFromHost(host, on_device, stream));
  ISTHMUS_RETURN_IF_ERROR(model->backbone().Forward(ids));
  HeadCost cost{.bytes = loss.bytes()};
  cost.flops = (3 * loss.ForwardFlopsPerToken() + loss.MoreBackwardFlopsPerToken()) * static_cast<double>(tokens) /
               mesh.tensor_ranks();
  // The first steps warm up.
  for (int64_t step = -1; step <= steps; ++step) {
    ISTHMUS_RETURN_IF_ERROR(loss.ResetSums());
    ISTHMUS_RETURN_IF_ERROR(mesh.world().Barrier());
    ISTHMUS_RETURN_IF_ERROR(stream.Synchronize());
    const auto start = std::chrono::steady_clock::now();
    ISTHMUS_RETURN_IF_ERROR(loss.BeginStep({.step = step + 2, .targets = host}));
    ISTHMUS_RETURN_IF_ERROR(loss.Train({.hidden = model->backbone().hidden(),
                                        .targets = on_device,
                                        .ids = ids,
                                        .scale = 1.0 / static_cast<double>(tokens),
                                        .grad_hidden = model->backbone().grad_hidden()}));
    ISTHMUS_RETURN_IF_ERROR(stream.Synchronize());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (step < 1) continue;
    cost.seconds = step == 1 ? seconds : std::min(cost.seconds, seconds);
  }
  return cost;
}

absl::Status CheckHeadsRequest(const HeadsRequest& request) {
  if (request.device != "cpu" && request.device != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat("--device: found \"", request.device, "\"; accepts cpu, cuda"));
  }
  if (request.precision != "fp32" && request.precision != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision: found \"", request.precision, "\"; accepts fp32, bf16"));
  }
  if (HeadSizes().count(request.size) == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--size: found \"", request.size, "\"; accepts ",
        absl::StrJoin(HeadSizes(), ", ", [](std::string* out, const auto& known) { *out += known.first; })));
  }
  if (request.steps < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--steps: found ", request.steps, "; accepts 1 or more"));
  }
  return absl::OkStatus();
}

absl::Status RunHeads(const HeadsRequest& request) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto runtime, MpiRuntime::Initialize());
  const auto world = runtime->World();
  SetThreads(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / runtime->local_size()));
  ISTHMUS_ASSIGN_OR_RETURN(ChosenDevice device,
                           ChooseDevice(request.device == "cuda" ? proto::CUDA : proto::CPU,
                                        proto::PrecisionConfig::BF16, runtime->local_rank(), *world, "heads_bench"));
  Stream& stream = device.stream;
  ISTHMUS_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(*world, world->size(), 1, stream));
  const HeadSize& size = HeadSizes().at(request.size);
  const auto precision = request.precision == "bf16" ? proto::PrecisionConfig::BF16 : proto::PrecisionConfig::FP32;
  const DType type = request.precision == "bf16" ? DType::kBFloat16 : DType::kFloat32;
  std::vector<std::string> heads = HeadsOf(size);
  if (!request.heads.empty()) {
    heads.resize(1);
    heads.insert(heads.end(), request.heads.begin(), request.heads.end());
  }
  nlohmann::json rows = nlohmann::json::array();
  double full_seconds = 0;
  for (const std::string& head : heads) {
    ISTHMUS_ASSIGN_OR_RETURN(const proto::RunConfig config, HeadConfigOf(size, head, precision, world->size()));
    double peak = 0;
    ISTHMUS_ASSIGN_OR_RETURN(peak, MeasureMatmulPeak(type, absl::Milliseconds(200), stream,
                                                     std::min(MatmulPeakSize(stream.device(), type), 16 * size.width)));
    ISTHMUS_ASSIGN_OR_RETURN(const HeadCost cost, MeasureHead(config, request.steps, mesh, stream));
    if (full_seconds == 0) full_seconds = cost.seconds;
    const double per_token = cost.seconds / static_cast<double>(size.tokens);
    const double ratio = cost.seconds / full_seconds, of_peak = cost.flops / cost.seconds / peak;
    if (world->rank() != 0) continue;
    std::printf("%s\n", absl::StrFormat("%-62s %9.3f µs a token = %5.2f of full  %5.1f %% of %.0f GFLOP/s  %6.1f MB",
                                        head, 1e6 * per_token, ratio, 100 * of_peak, peak / 1e9,
                                        static_cast<double>(cost.bytes) / 1e6)
                            .c_str());
    std::fflush(stdout);
    rows.push_back({{"system", "isthmus"},
                    {"size", request.size},
                    {"head", head},
                    {"dtype", request.precision},
                    {"device", device.name},
                    {"ranks", world->size()},
                    {"vocabulary", size.vocabulary},
                    {"width", size.width},
                    {"tokens", size.tokens},
                    {"seconds_per_token", per_token},
                    {"ratio_to_full", ratio},
                    {"ratio_to_measured_peak", of_peak},
                    {"measured_peak_gigaflops_per_second", peak / 1e9},
                    {"memory_bytes", cost.bytes}});
  }
  for (const std::string& note : stream.TakeNotes()) std::printf("%s\n", note.c_str());
  if (world->rank() != 0 || request.json.empty()) return absl::OkStatus();
  return WriteDurably(request.json, rows.dump(1) + "\n", FileOwner::kUser);
}

absl::Status HeadsMain(const std::vector<std::string>& arguments) {
  HeadsRequest request;
  Options options("heads_bench", "Measures LM heads with their losses. Start it alone or under mpirun.");
  options.Add("device", "DEVICE", "cpu, or cuda: one GPU to a rank", &request.device)
      .Add("size", "SIZE", "tiny, quickstart or 2b", &request.size)
      .Add("precision", "TYPE", "fp32 or bf16", &request.precision)
      .Add("head", "TEXT", "a head beside the full one, as text of model.head; may be repeated; without: all kinds",
           &request.heads)
      .Add("steps", "N", "steps that are timed, of which the fastest counts", &request.steps)
      .Add("json", "FILE", "also write the figures there", &request.json);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    std::fputs(options.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  ISTHMUS_RETURN_IF_ERROR(CheckHeadsRequest(request));
  return RunHeads(request);
}

}  // namespace
}  // namespace isthmus

int main(int argc, char** argv) {
  const absl::Status status = isthmus::HeadsMain(std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 4;
}
