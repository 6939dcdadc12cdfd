// The rules of what is no part of the model: mesh, batch, training, telemetry, stability, data.
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>
#include <arpa/inet.h>

#include <algorithm>
#include <limits>

#include "runtime/config.h"
#include "runtime/config_rules.h"

namespace isthmus {
namespace {

void CheckMesh(proto::MeshConfig& mesh, int world, ConfigRules& rules) {
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

void CheckBatch(proto::RunConfig& config, ConfigRules& rules) {
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
  rules.Product({{"schedule.steps", std::max<int64_t>(config.schedule().steps(), 1)},
                 {"batch.sequences", batch.sequences()},
                 {"data.sequence_length", length}},
                int64_t{1} << 62, "tokens");
  rules.Require(!config.mesh().sequence_parallel() || tokens % config.mesh().tensor() == 0, "mesh.sequence_parallel",
                "true",
                absl::StrCat("batch.micro_batch × data.sequence_length = ", tokens,
                             " tokens are not divisible by mesh.tensor (", config.mesh().tensor(), ")"));
}

void CheckTraining(const proto::RunConfig& config, ConfigRules& rules) {
  const auto& optimizer = config.optimizer();
  rules.Between(0, ConfigRules::kLarge, "optimizer.learning_rate", optimizer.learning_rate());
  rules.Between(0, 0.999999999, "optimizer.beta1", optimizer.beta1());
  rules.Between(0, 0.999999999, "optimizer.beta2", optimizer.beta2());
  // A smaller one would be zero in fp32, and 0/0 the step of a weight without a gradient.
  rules.Between(std::numeric_limits<float>::min(), ConfigRules::kLarge, "optimizer.epsilon", optimizer.epsilon());
  rules.Between(0, ConfigRules::kLarge, "optimizer.weight_decay", optimizer.weight_decay());
  rules.Between(0, ConfigRules::kLarge, "optimizer.clip_norm", optimizer.clip_norm());
  const auto& schedule = config.schedule();
  rules.AtLeast<int64_t>(1, "schedule.steps", schedule.steps());
  rules.Require(schedule.warmup_steps() >= 0 && schedule.warmup_steps() <= schedule.steps(), "schedule.warmup_steps",
                schedule.warmup_steps(), absl::StrCat("accepts 0 to schedule.steps (", schedule.steps(), ")"));
  rules.Between(0, 1, "schedule.final_ratio", schedule.final_ratio());
  rules.Between(0, 1, "schedule.decay_fraction", schedule.decay_fraction());
  rules.Between(0, ConfigRules::kLarge, "schedule.max_seconds", schedule.max_seconds());
  const auto& precision = config.precision();
  rules.AtLeast<int64_t>(1, "precision.loss_chunk", precision.loss_chunk());
  rules.Require(
      !precision.fp8_layers() || precision.compute() == proto::PrecisionConfig::BF16, "precision.fp8_layers", "true",
      absl::StrCat("needs precision.compute BF16, not ", proto::PrecisionConfig::Kind_Name(precision.compute())));
  const auto& telemetry = config.telemetry();
  rules.AtLeast<int64_t>(0, "telemetry.interval", telemetry.interval());
  rules.AtLeast<int64_t>(1, "telemetry.log_interval", telemetry.log_interval());
  rules.AtLeast<int64_t>(0, "telemetry.validation_interval", telemetry.validation_interval());
  rules.AtLeast<int64_t>(1, "telemetry.validation_batches", telemetry.validation_batches());
  rules.Within(1, 16384, "telemetry.sample_tokens", telemetry.sample_tokens());
  rules.Within(0, 16384, "telemetry.jacobian_tokens", telemetry.jacobian_tokens());
  rules.Require(telemetry.dump_step() >= 0 && telemetry.dump_step() <= schedule.steps(), "telemetry.dump_step",
                telemetry.dump_step(), absl::StrCat("accepts 0 to schedule.steps (", schedule.steps(), ")"));
  rules.Require(telemetry.dump_step() == 0 || config.model().head().future().empty(), "telemetry.dump_step",
                telemetry.dump_step(),
                "accepts 0 with model.head.future: a dump has the ordinary targets alone, and not those of the loss");
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

void CheckStability(const proto::RunConfig& config, ConfigRules& rules) {
  const auto& stability = config.stability();
  const auto& spike = stability.spike();
  rules.Within(4, 65536, "stability.spike.window", spike.window());
  rules.Between(0, ConfigRules::kLarge, "stability.spike.loss_threshold", spike.loss_threshold());
  rules.Between(0, ConfigRules::kLarge, "stability.spike.gradient_norm_threshold", spike.gradient_norm_threshold());
  rules.AtLeast<int64_t>(1, "stability.max_in_a_row", stability.max_in_a_row());
  rules.AtLeast<int64_t>(1, "stability.max_in_window", stability.max_in_window());
  rules.AtLeast<int64_t>(1, "stability.window", stability.window());
  rules.Within(1, 1 << 20, "stability.rollback_batches", stability.rollback_batches());
  const auto needs_checkpoints = [&](bool rolls_back, absl::string_view field) {
    rules.Require(!rolls_back || config.checkpoint().interval() > 0, field, "ROLLBACK",
                  "needs checkpoints on the way: set checkpoint.interval");
  };
  needs_checkpoints(stability.non_finite().policy() == proto::NonFiniteConfig::ROLLBACK, "stability.non_finite.policy");
  needs_checkpoints(spike.policy() == proto::SpikeConfig::ROLLBACK, "stability.spike.policy");
}

// Resolves data that are made up: no files belong to them.
void CheckSpamLang(const proto::ModelConfig& model, proto::DataConfig& data, ConfigRules& rules) {
  constexpr char kNone[] = "accepts none with data.spamlang, whose samples are made up";
  const auto no_files = [&](const char* field, const auto& paths) {
    rules.Require(paths.empty(), field, paths.empty() ? "" : absl::StrCat("\"", paths.Get(0), "\""), kNone);
  };
  no_files("data.train", data.train());
  no_files("data.validation", data.validation());
  rules.Require(data.tokenizer().empty(), "data.tokenizer", absl::StrCat("\"", data.tokenizer(), "\""), kNone);
  const int64_t vocabulary = model.vocabulary();
  rules.Require(vocabulary >= 1, "model.vocabulary", vocabulary,
                "accepts 1 and more with data.spamlang: no token shards have one");
  if (!rules.status().ok()) return;
  auto& spamlang = *data.mutable_spamlang();
  rules.Require(spamlang.symbols() >= 0 && spamlang.symbols() <= vocabulary, "data.spamlang.symbols",
                spamlang.symbols(),
                absl::StrCat("accepts 1 to model.vocabulary (", vocabulary, "), or 0 for all of it"));
  if (spamlang.symbols() == 0) spamlang.set_symbols(vocabulary);
}

void CheckData(proto::RunConfig& config, ConfigRules& rules) {
  auto& data = *config.mutable_data();
  rules.Require(!config.folder().empty(), "folder", "\"\"", "needs the folder that the run is written to");
  if (data.has_spamlang()) {
    CheckSpamLang(config.model(), data, rules);
  } else {
    rules.Require(data.train_size() > 0, "data.train", "empty",
                  "needs token shards (.ids) or folders of them, or data.spamlang in their place");
    rules.Require(!data.validation().empty() || (data.validation_fraction() > 0 && data.validation_fraction() < 1),
                  "data.validation_fraction", data.validation_fraction(),
                  "needs a number above 0 and below 1 where data.validation is empty");
  }
  rules.Within(1, 1024, "data.prefetch_batches", data.prefetch_batches());
  for (const int64_t batch : data.pass_over()) rules.AtLeast<int64_t>(1, "data.pass_over", batch);
}

}  // namespace

void ResolveRunSettings(proto::RunConfig& config, int world_size, ConfigRules& rules) {
  CheckMesh(*config.mutable_mesh(), world_size, rules);
  if (rules.status().ok()) CheckBatch(config, rules);
  CheckTraining(config, rules);
  CheckStability(config, rules);
  CheckData(config, rules);
}

}  // namespace isthmus
