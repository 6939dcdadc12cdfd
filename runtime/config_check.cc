// The rules that a configuration must keep.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/string_view.h>
#include <arpa/inet.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/config.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// One factor of a size.
struct Factor {
  absl::string_view field;
  int64_t value = 0;
};

const Factor& Larger(const Factor& a, const Factor& b) { return a.value < b.value ? b : a; }

// The widest rows of a layer.
Factor WidestRows(const proto::ModelConfig& model) {
  return Larger({"model.width", model.width()},
                Larger({"model.heads × model.head_dim", model.heads() * model.head_dim()},
                       {"model.feed_forward", model.feed_forward()}));
}

// Collects the first broken rule: each message is "source: field: found; accepted".
class Rules {
 public:
  explicit Rules(absl::string_view source) : source_(source) {}

  template <typename T>
  void Require(bool kept, absl::string_view field, T found, absl::string_view accepted) {
    if (kept || !status_.ok()) return;
    status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", field, ": ", found, "; ", accepted));
  }
  template <typename T>
  void AtLeast(T least, absl::string_view field, T found) {
    Require(found >= least, field, found, absl::StrCat("needs at least ", least));
  }
  // Finite and in [least, most]; comparisons with NaN are false.
  void Between(double least, double most, absl::string_view field, double found) {
    Require(std::isfinite(found) && found >= least && found <= most, field, found,
            absl::StrCat("needs a finite number from ", least, most < kLarge ? absl::StrCat(" to ", most) : " on"));
  }
  void Positive(absl::string_view field, double found) {
    Require(std::isfinite(found) && found > 0, field, found, "needs a finite number above 0");
  }
  // Sizes are products of several fields, of memory also of the bytes of an element: none may overflow. Factors are 1
  // at least.
  void Product(const std::vector<Factor>& factors, int64_t most = kMostElements, absl::string_view what = "elements") {
    int64_t product = 1;
    bool kept = true;
    std::string others;
    for (const Factor& factor : factors) {
      kept = kept && !__builtin_mul_overflow(product, factor.value, &product) && product <= most;
      if (&factor != &factors.front())
        absl::StrAppend(&others, others.empty() ? " " : " × ", factor.field, " (", factor.value, ")");
    }
    Require(kept, factors.front().field, factors.front().value,
            absl::StrCat("makes with", others, " more than ", most, " ", what, "; lower one of them"));
  }
  // `found` must be a multiple of mesh.tensor.
  void DivisibleByTensor(absl::string_view field, int64_t found, int64_t tensor) {
    if (found % tensor == 0) return;
    std::vector<int64_t> divisors;
    for (int64_t d = 1; d <= std::min<int64_t>(found, 1024); ++d) {
      if (found % d == 0) divisors.push_back(d);
    }
    Require(false, field, found,
            absl::StrCat("is not divisible by mesh.tensor (", tensor, "); use a mesh.tensor of ",
                         absl::StrJoin(divisors, ", ")));
  }
  const absl::Status& status() const { return status_; }

  static constexpr double kLarge = 1e30;
  // A thousand bytes of each are still far from 2^63.
  static constexpr int64_t kMostElements = int64_t{1} << 50;

 private:
  std::string source_;
  absl::Status status_;
};

void CheckModel(proto::ModelConfig& model, int64_t tensor, Rules& rules) {
  // Layers have fewer, because there are tables of them.
  constexpr int64_t kMost = int64_t{1} << 24, kMostLayers = int64_t{1} << 16;
  const auto size = [&](absl::string_view field, int64_t found, int64_t least, int64_t most) {
    rules.Require(found >= least && found <= most, field, found, absl::StrCat("accepts ", least, " to ", most));
  };
  size("model.width", model.width(), 1, kMost);
  size("model.layers", model.layers(), 1, kMostLayers);
  size("model.heads", model.heads(), 1, kMost);
  size("model.kv_heads", model.kv_heads(), 0, kMost);
  size("model.head_dim", model.head_dim(), 0, kMost);
  size("model.feed_forward", model.feed_forward(), 0, kMost);
  rules.Require(model.vocabulary() >= 0 && model.vocabulary() <= std::numeric_limits<int32_t>::max(),
                "model.vocabulary", model.vocabulary(), "accepts 0 (taken from the token shards) to 2147483647");
  if (!rules.status().ok()) return;
  if (model.kv_heads() == 0) model.set_kv_heads(model.heads());
  if (model.head_dim() == 0) {
    rules.Require(
        model.width() % model.heads() == 0, "model.heads", model.heads(),
        absl::StrCat("does not divide model.width (", model.width(), "); choose another or set model.head_dim"));
    model.set_head_dim(std::max<int64_t>(model.width() / model.heads(), 1));
  }
  if (model.feed_forward() == 0) model.set_feed_forward((model.width() * 8 / 3 + 63) / 64 * 64);
  rules.Require(model.head_dim() % 2 == 0, "model.head_dim", model.head_dim(),
                "must be even: rotary positions turn pairs of features");
  rules.Require(model.heads() % model.kv_heads() == 0, "model.kv_heads", model.kv_heads(),
                absl::StrCat("does not divide model.heads (", model.heads(), ")"));
  rules.Require(model.heads() * model.head_dim() <= kMost, "model.heads", model.heads(),
                absl::StrCat("times model.head_dim (", model.head_dim(), ") is over ", kMost, "; lower one of them"));
  rules.Product({{"model.layers", model.layers()}, {"model.width", model.width()}, WidestRows(model)});
  rules.DivisibleByTensor("model.heads", model.heads(), tensor);
  rules.DivisibleByTensor("model.kv_heads", model.kv_heads(), tensor);
  rules.DivisibleByTensor("model.feed_forward", model.feed_forward(), tensor);
  rules.Positive("model.rope_theta", model.rope_theta());
  rules.Between(0, 1, "model.norm_epsilon", model.norm_epsilon());
  rules.Positive("model.init_std", model.init_std());
}

void CheckMesh(proto::MeshConfig& mesh, int world, Rules& rules) {
  rules.AtLeast(1, "mesh.tensor", mesh.tensor());
  rules.AtLeast(0, "mesh.data", mesh.data());
  if (!rules.status().ok()) return;
  rules.Require(mesh.data() != 0 || world % mesh.tensor() == 0, "mesh.tensor", mesh.tensor(),
                absl::StrCat("does not divide the ", world, " ranks that were started; start a multiple of ",
                             mesh.tensor(), " or use a divisor of ", world));
  if (mesh.data() == 0) mesh.set_data(std::max(world / mesh.tensor(), 1));
  const int64_t ranks = int64_t{mesh.tensor()} * mesh.data();
  rules.Require(
      ranks == world, "mesh.data", mesh.data(),
      absl::StrCat("mesh.tensor (", mesh.tensor(), ") × mesh.data (", mesh.data(), ") = ", ranks, " ranks, but ", world,
                   " were started; start ", ranks, " or set mesh.data to 0 (world size / mesh.tensor)"));
  rules.Between(1e-6, 1e6, "mesh.bucket_mebibytes", mesh.bucket_mebibytes());
  rules.Between(0.001, 1e6, "mesh.collective_timeout_seconds", mesh.collective_timeout_seconds());
  rules.Between(0.001, 1e6, "mesh.setup_timeout_seconds", mesh.setup_timeout_seconds());
}

void CheckBatch(proto::RunConfig& config, Rules& rules) {
  auto& batch = *config.mutable_batch();
  const int64_t data = config.mesh().data(), length = config.data().sequence_length();
  rules.AtLeast<int64_t>(1, "data.sequence_length", length);
  rules.AtLeast<int64_t>(1, "batch.sequences", batch.sequences());
  rules.AtLeast<int64_t>(0, "batch.micro_batch", batch.micro_batch());
  rules.Require(batch.sequences() <= int64_t{1} << 24 && length <= int64_t{1} << 24, "batch.sequences",
                batch.sequences(), "batch.sequences and data.sequence_length accept at most 16777216");
  if (!rules.status().ok()) return;
  rules.Require(batch.sequences() % data == 0, "batch.sequences", batch.sequences(),
                absl::StrCat("is not divisible by mesh.data (", data, "); use a multiple of it"));
  if (batch.micro_batch() == 0) batch.set_micro_batch(std::max<int64_t>(batch.sequences() / data, 1));
  rules.Require(batch.micro_batch() <= batch.sequences(), "batch.micro_batch", batch.micro_batch(),
                absl::StrCat("is over batch.sequences (", batch.sequences(), "); use a divisor of it"));
  if (!rules.status().ok()) return;
  const int64_t pass = batch.micro_batch() * data;
  rules.Require(batch.sequences() % pass == 0, "batch.sequences", batch.sequences(),
                absl::StrCat("is not divisible by batch.micro_batch (", batch.micro_batch(), ") × mesh.data (", data,
                             ") = ", pass, "; use a multiple of it"));
  const int64_t tokens = batch.micro_batch() * length;
  rules.Require(tokens <= std::numeric_limits<int32_t>::max(), "batch.micro_batch", batch.micro_batch(),
                absl::StrCat("times data.sequence_length (", length, ") is over 2147483647 tokens; lower one of them"));
  rules.Product({{"batch.micro_batch", batch.micro_batch()},
                 {"data.sequence_length", length},
                 {"model.layers", config.model().layers()},
                 WidestRows(config.model())});
  rules.Product({{"schedule.steps", std::max<int64_t>(config.schedule().steps(), 1)},
                 {"batch.sequences", batch.sequences()},
                 {"data.sequence_length", length}},
                int64_t{1} << 62, "tokens");
  rules.Require(!config.mesh().sequence_parallel() || tokens % config.mesh().tensor() == 0, "mesh.sequence_parallel",
                "true",
                absl::StrCat("batch.micro_batch × data.sequence_length = ", tokens,
                             " tokens are not divisible by mesh.tensor (", config.mesh().tensor(), ")"));
}

// Products of 8-bit operands take multiples of 16 (ops/fp8_matmul.h).
void CheckFp8(const proto::RunConfig& config, Rules& rules) {
  if (!config.precision().fp8_layers()) return;
  constexpr int64_t kMultiple = 16;
  const auto& model = config.model();
  const int64_t tensor = config.mesh().tensor();
  const auto multiple = [&](absl::string_view field, int64_t found, int64_t size, absl::string_view what) {
    rules.Require(size % kMultiple == 0, field, found,
                  absl::StrCat("precision.fp8_layers needs ", what, " (", size, ") to be a multiple of ", kMultiple));
  };
  rules.Require(config.precision().compute() == proto::PrecisionConfig::BF16, "precision.fp8_layers", "true",
                absl::StrCat("needs precision.compute BF16, not ",
                             proto::PrecisionConfig::Kind_Name(config.precision().compute())));
  multiple("model.width", model.width(), model.width(), "model.width");
  multiple("model.heads", model.heads(), model.heads() * model.head_dim() / tensor,
           "model.heads × model.head_dim / mesh.tensor");
  multiple("model.kv_heads", model.kv_heads(), 2 * model.kv_heads() * model.head_dim() / tensor,
           "2 × model.kv_heads × model.head_dim / mesh.tensor");
  multiple("model.feed_forward", model.feed_forward(), model.feed_forward() / tensor,
           "model.feed_forward / mesh.tensor");
  multiple("batch.micro_batch", config.batch().micro_batch(),
           config.batch().micro_batch() * config.data().sequence_length(), "batch.micro_batch × data.sequence_length");
}

void CheckTraining(const proto::RunConfig& config, Rules& rules) {
  const auto& optimizer = config.optimizer();
  rules.Between(0, Rules::kLarge, "optimizer.learning_rate", optimizer.learning_rate());
  rules.Between(0, 0.999999999, "optimizer.beta1", optimizer.beta1());
  rules.Between(0, 0.999999999, "optimizer.beta2", optimizer.beta2());
  // A smaller one would be zero in fp32, and 0/0 the step of a weight without a gradient.
  rules.Between(std::numeric_limits<float>::min(), Rules::kLarge, "optimizer.epsilon", optimizer.epsilon());
  rules.Between(0, Rules::kLarge, "optimizer.weight_decay", optimizer.weight_decay());
  rules.Between(0, Rules::kLarge, "optimizer.clip_norm", optimizer.clip_norm());
  const auto& schedule = config.schedule();
  rules.AtLeast<int64_t>(1, "schedule.steps", schedule.steps());
  rules.Require(schedule.warmup_steps() >= 0 && schedule.warmup_steps() <= schedule.steps(), "schedule.warmup_steps",
                schedule.warmup_steps(), absl::StrCat("accepts 0 to schedule.steps (", schedule.steps(), ")"));
  rules.Between(0, 1, "schedule.final_ratio", schedule.final_ratio());
  rules.Between(0, 1, "schedule.decay_fraction", schedule.decay_fraction());
  rules.Between(0, Rules::kLarge, "schedule.max_seconds", schedule.max_seconds());
  rules.AtLeast<int64_t>(1, "precision.loss_chunk", config.precision().loss_chunk());
  const auto& telemetry = config.telemetry();
  rules.AtLeast<int64_t>(0, "telemetry.interval", telemetry.interval());
  rules.AtLeast<int64_t>(1, "telemetry.log_interval", telemetry.log_interval());
  rules.AtLeast<int64_t>(0, "telemetry.validation_interval", telemetry.validation_interval());
  rules.AtLeast<int64_t>(1, "telemetry.validation_batches", telemetry.validation_batches());
  rules.Require(telemetry.sample_tokens() >= 1 && telemetry.sample_tokens() <= 16384, "telemetry.sample_tokens",
                telemetry.sample_tokens(), "accepts 1 to 16384");
  rules.Require(telemetry.dump_step() >= 0 && telemetry.dump_step() <= schedule.steps(), "telemetry.dump_step",
                telemetry.dump_step(), absl::StrCat("accepts 0 to schedule.steps (", schedule.steps(), ")"));
  const auto& checkpoint = config.checkpoint();
  rules.AtLeast<int64_t>(0, "checkpoint.interval", checkpoint.interval());
  rules.AtLeast<int64_t>(1, "checkpoint.keep", checkpoint.keep());
  rules.AtLeast<int64_t>(0, "checkpoint.keep_every", checkpoint.keep_every());
  const auto& prometheus = telemetry.prometheus();
  in6_addr address{};
  rules.Require(inet_pton(AF_INET, prometheus.address().c_str(), &address) == 1 ||
                    inet_pton(AF_INET6, prometheus.address().c_str(), &address) == 1,
                "telemetry.prometheus.address", absl::StrCat("\"", prometheus.address(), "\""),
                "accepts an address of this machine, as 127.0.0.1 or ::1; 0.0.0.0 for all");
  rules.Require(prometheus.port() >= 0 && prometheus.port() <= 65535, "telemetry.prometheus.port", prometheus.port(),
                "accepts 1 to 65535, or 0 for none");
}

void CheckStability(const proto::RunConfig& config, Rules& rules) {
  const auto& stability = config.stability();
  const auto& spike = stability.spike();
  rules.Require(spike.window() >= 4 && spike.window() <= 65536, "stability.spike.window", spike.window(),
                "accepts 4 to 65536");
  rules.Between(0, Rules::kLarge, "stability.spike.loss_threshold", spike.loss_threshold());
  rules.Between(0, Rules::kLarge, "stability.spike.gradient_norm_threshold", spike.gradient_norm_threshold());
  rules.AtLeast<int64_t>(1, "stability.max_in_a_row", stability.max_in_a_row());
  rules.AtLeast<int64_t>(1, "stability.max_in_window", stability.max_in_window());
  rules.AtLeast<int64_t>(1, "stability.window", stability.window());
  rules.Require(stability.rollback_batches() >= 1 && stability.rollback_batches() <= 1 << 20,
                "stability.rollback_batches", stability.rollback_batches(), "accepts 1 to 1048576");
  const auto needs_checkpoints = [&](bool rolls_back, absl::string_view field) {
    rules.Require(!rolls_back || config.checkpoint().interval() > 0, field, "ROLLBACK",
                  "needs checkpoints on the way: set checkpoint.interval");
  };
  needs_checkpoints(stability.non_finite().policy() == proto::NonFiniteConfig::ROLLBACK, "stability.non_finite.policy");
  needs_checkpoints(spike.policy() == proto::SpikeConfig::ROLLBACK, "stability.spike.policy");
}

void CheckData(const proto::RunConfig& config, Rules& rules) {
  const auto& data = config.data();
  rules.Require(!config.folder().empty(), "folder", "\"\"", "needs the folder that the run is written to");
  rules.Require(data.train_size() > 0, "data.train", "empty", "needs token shards (.ids) or folders of them");
  rules.Require(!data.validation().empty() || (data.validation_fraction() > 0 && data.validation_fraction() < 1),
                "data.validation_fraction", data.validation_fraction(),
                "needs a number above 0 and below 1 where data.validation is empty");
  rules.Require(data.prefetch_batches() >= 1 && data.prefetch_batches() <= 1024, "data.prefetch_batches",
                data.prefetch_batches(), "accepts 1 to 1024");
  for (const int64_t batch : data.pass_over()) rules.AtLeast<int64_t>(1, "data.pass_over", batch);
}

}  // namespace

absl::Status ResolveConfig(proto::RunConfig& config, int world_size, absl::string_view source) {
  Rules rules(source);
  CheckMesh(*config.mutable_mesh(), world_size, rules);
  if (rules.status().ok()) CheckModel(*config.mutable_model(), config.mesh().tensor(), rules);
  if (rules.status().ok()) CheckBatch(config, rules);
  if (rules.status().ok()) CheckFp8(config, rules);
  CheckTraining(config, rules);
  CheckStability(config, rules);
  CheckData(config, rules);
  return rules.status();
}

absl::Status ResolveVocabulary(proto::RunConfig& config, int64_t shard_vocabulary, absl::string_view source) {
  auto& model = *config.mutable_model();
  Rules rules(source);
  rules.Require(
      model.vocabulary() == 0 || model.vocabulary() >= shard_vocabulary, "model.vocabulary", model.vocabulary(),
      absl::StrCat("the token shards have a vocabulary of ", shard_vocabulary, "; set 0 or at least as many"));
  if (model.vocabulary() == 0) model.set_vocabulary(shard_vocabulary);
  const int64_t tokens = config.batch().micro_batch() * config.data().sequence_length();
  rules.Product({{"model.vocabulary", model.vocabulary()}, {"model.width", model.width()}});
  rules.Product({{"model.vocabulary", model.vocabulary()},
                 {"precision.loss_chunk", std::min(config.precision().loss_chunk(), std::max<int64_t>(tokens, 1))}});
  rules.Require(model.vocabulary() >= config.mesh().tensor(), "model.vocabulary", model.vocabulary(),
                absl::StrCat("needs at least one row for each of mesh.tensor (", config.mesh().tensor(), ") ranks"));
  return rules.status();
}

}  // namespace isthmus
