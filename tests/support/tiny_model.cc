#include "tests/support/tiny_model.h"

#include <absl/strings/str_cat.h>
#include <google/protobuf/text_format.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "model/head_clusters.h"
#include "runtime/data/token_tables.h"
#include "runtime/philox.h"

namespace isthmus::testing {
namespace {

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

std::string TinyOptions::Name() const {
  return absl::StrCat("tensor ", tensor, " data ", data, sequence_parallel ? " sequence_parallel" : "",
                      shard_optimizer ? " shard_optimizer" : "", recompute ? " recompute" : "", " micro_batch ",
                      micro_batch, tied ? " tied" : "", fp8 ? " fp8" : "", " ", family, " ", head_kind, " head_rank ",
                      head_rank, " ", head, " ", optimizer, " V ", vocabulary, " ",
                      proto::PrecisionConfig::Kind_Name(precision));
}

proto::RunConfig TinyConfig(const TinyOptions& options) {
  proto::RunConfig config;
  auto& model = *config.mutable_model();
  model.set_vocabulary(options.vocabulary);
  model.set_width(options.width);
  model.set_layers(2);
  model.set_heads(options.heads);
  model.set_kv_heads(options.heads);
  model.set_head_dim(options.head_dim);
  model.set_feed_forward(options.feed_forward);
  model.set_tied_embeddings(options.tied);
  model.set_head_rank(options.head_rank);
  model.set_family(options.family);
  model.mutable_head()->set_kind(options.head_kind);
  if (!google::protobuf::TextFormat::MergeFromString(options.head, model.mutable_head())) std::abort();
  model.set_init_std(0.1);  // larger than in practice, so that every path matters in a model this small
  auto& mesh = *config.mutable_mesh();
  mesh.set_tensor(options.tensor);
  mesh.set_data(options.data);
  mesh.set_sequence_parallel(options.sequence_parallel);
  mesh.set_shard_optimizer(options.shard_optimizer);
  mesh.set_bucket_mebibytes(0.01);
  config.mutable_data()->set_sequence_length(options.sequence_length);
  auto& batch = *config.mutable_batch();
  batch.set_sequences(options.sequences);
  batch.set_micro_batch(options.micro_batch > 0 ? options.micro_batch : options.sequences / options.data);
  config.mutable_optimizer()->set_learning_rate(3e-3);
  if (!google::protobuf::TextFormat::MergeFromString(options.optimizer, config.mutable_optimizer())) std::abort();
  auto& precision = *config.mutable_precision();
  precision.set_compute(options.precision);
  precision.set_recompute(options.recompute);
  precision.set_fp8_layers(options.fp8);
  precision.set_loss_chunk(options.loss_chunk);
  config.mutable_telemetry()->set_sample_tokens(options.sample_tokens);
  config.mutable_telemetry()->set_jacobian_tokens(options.jacobian_tokens);
  if (!options.measured) config.mutable_telemetry()->set_interval(0);
  config.mutable_cuda()->set_graph(options.cuda_graph);
  return config;
}

TokenBatch MakeBatch(const TinyOptions& options, int64_t step) {
  TokenBatch batch;
  for (int64_t sequence = 0; sequence < options.sequences; ++sequence) {
    for (int64_t t = 0; t < options.sequence_length; ++t) {
      const auto token = [&](int64_t position) {
        const auto index = static_cast<uint64_t>(sequence * (options.sequence_length + 1) + position);
        const double u = Philox::Uniform(11, RandomPurpose::kTest, static_cast<uint32_t>(step), index);
        // Squared: frequent and rare tokens, as in text.
        return static_cast<int32_t>(u * u * static_cast<double>(options.vocabulary));
      };
      batch.ids.push_back(token(t));
      batch.targets.push_back(token(t + 1));
    }
  }
  return batch;
}

std::vector<uint64_t> TinyCounts(const TinyOptions& options) {
  std::vector<uint64_t> counts;
  for (uint64_t row = 0; row < static_cast<uint64_t>(options.vocabulary); ++row) {
    counts.push_back(Philox::Words(5, RandomPurpose::kTest, 0, row)[0] % 1000);
  }
  return counts;
}

Tensor PartOf(std::vector<int32_t>& tokens, int index, int parts) {
  const auto size = static_cast<int64_t>(tokens.size()) / parts;
  return Tensor(tokens.data() + index * size, DType::kInt32, 1, size);
}

Replica::Replica(const TinyOptions& options, Communicator* world, uint64_t seed, const Stream& stream)
    : options_(options), stream_(stream) {
  if (world == nullptr) {
    options_.tensor = options_.data = 1;
    self_ = MakeSelfCommunicator();
    world = self_.get();
  }
  mesh_ = std::make_unique<Mesh>(ValueOrDie(Mesh::Create(*world, options_.tensor, options_.data, stream_)));
  const proto::RunConfig config = TinyConfig(options_);
  decomposition_ = ValueOrDie(HeadDecomposition::Create(config, *mesh_, stream_, TinyCounts(options_)));
  TokenTables tables{.clusters = options_.clusters, .counts = TinyCounts(options_)};
  if (tables.clusters.empty()) tables.clusters = ValueOrDie(MakeClusters(config, options_.vocabulary, tables.counts));
  model_ = ValueOrDie(TrainingModel::Create(config, *mesh_, stream_, decomposition_.get(), tables));
  if (!model_->InitializeWeights(seed).ok()) std::abort();
}

StepWithFigures WithFigures(const StepResult& result, bool measured, const HeadDecomposition* decomposition) {
  StepWithFigures step{result, std::nullopt, {}};
  if (!measured || !result.applied) return step;
  step.head = decomposition->result().head;
  step.layers = decomposition->result().layers;
  return step;
}

StepWithFigures Replica::Step(int64_t step, bool measure_head, bool last) {
  TokenBatch batch = MakeBatch(options_, step % 2);  // two batches in turn: soon learnt by heart
  const StepResult result =
      ValueOrDie(model_->Step({.ids = PartOf(batch.ids, mesh_->data_rank(), mesh_->data_ranks()),
                               .targets = PartOf(batch.targets, mesh_->data_rank(), mesh_->data_ranks()),
                               .step = step,
                               .learning_rate = 3e-3,
                               .measure = measure_head,
                               .last = last}));
  return WithFigures(result, measure_head, decomposition_.get());
}

int64_t TestSteps() {
  const char* steps = std::getenv("ISTHMUS_TEST_STEPS");
  return steps != nullptr ? std::atoll(steps) : 20;
}

std::vector<int> Switches(int options, bool in_pairs) {
  const int all = (1 << options) - 1;
  std::vector<int> ways;
  if (in_pairs && options > 2) {
    ways.push_back(0);
    for (int i = 0; i < options; ++i) ways.push_back(all & ~(1 << i));
    return ways;
  }
  for (int bits = 0; bits <= all; ++bits) ways.push_back(bits);
  return ways;
}

double ElementOf(const Tensor& tensor, int64_t i) {
  switch (tensor.dtype) {
    case DType::kFloat64:
      return tensor.As<double>()[i];
    case DType::kBFloat16:
      return static_cast<float>(tensor.As<BFloat16>()[i]);
    default:
      return tensor.As<float>()[i];
  }
}

void SetElement(const Tensor& tensor, int64_t i, double value) {
  switch (tensor.dtype) {
    case DType::kFloat64:
      tensor.As<double>()[i] = value;
      break;
    case DType::kBFloat16:
      tensor.As<BFloat16>()[i] = BFloat16(static_cast<float>(value));
      break;
    default:
      tensor.As<float>()[i] = static_cast<float>(value);
      break;
  }
}

}  // namespace isthmus::testing
