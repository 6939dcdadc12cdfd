#include "runtime/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "runtime/config_rules.h"
#include "tests/support/case_name.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr char kGood[] = R"(
folder: "runs/x"
model { width: 64 layers: 2 heads: 12 head_dim: 4 feed_forward: 96 }
data { train: "tokens" sequence_length: 16 }
batch { sequences: 24 }
)";

proto::RunConfig Parsed(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto config = ParseConfig(text, "x.textproto", overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : proto::RunConfig();
}

absl::Status Resolve(proto::RunConfig& config, int world) {
  ConfigRules rules("x.textproto");
  ResolveRunSettings(config, world, rules);
  return rules.status();
}

TEST(Config, StatesEveryFieldAndReadsBackAsItWas) {
  proto::RunConfig config = Parsed(kGood);
  ASSERT_TRUE(Resolve(config, 6).ok());
  EXPECT_EQ(config.mesh().data(), 6);
  EXPECT_EQ(config.batch().micro_batch(), 4);
  const std::string text = ConfigText(config);
  for (const char* field : {"rope_theta", "decay_fraction", "prefetch_batches", "save_final", "collective_timeout"}) {
    EXPECT_THAT(text, HasSubstr(field));
  }
  EXPECT_EQ(ConfigText(Parsed(text)), text);
}

TEST(Config, OverridesSetEveryKindOfFieldInOrder) {
  const proto::RunConfig config =
      Parsed(kGood, {"seed=18446744073709551615", "model.layers=3", "model.layers=5", "optimizer.learning_rate=2.5e-4",
                     "mesh.sequence_parallel=true", "schedule.kind=WARMUP_STABLE_DECAY", "data.train=a,b",
                     "data.train+=c", "data.pass_over=7,8", "data.pass_over+=9", "folder=with=equals", "device=cuda"});
  EXPECT_EQ(config.seed(), 18446744073709551615u);
  EXPECT_EQ(config.model().layers(), 5);
  EXPECT_EQ(config.optimizer().learning_rate(), 2.5e-4);
  EXPECT_TRUE(config.mesh().sequence_parallel());
  EXPECT_EQ(config.schedule().kind(), proto::ScheduleConfig::WARMUP_STABLE_DECAY);
  EXPECT_THAT(config.data().train(), ::testing::ElementsAre("a", "b", "c"));
  EXPECT_THAT(config.data().pass_over(), ::testing::ElementsAre(7, 8, 9));
  EXPECT_EQ(config.folder(), "with=equals");
  EXPECT_EQ(config.device(), proto::CUDA);
}

TEST(Config, AnElementOfAListIsFoundByItsName) {
  const proto::RunConfig config =
      Parsed(kGood, {"optimizer.groups+=name: \"head\" learning_rate_factor: 2", "optimizer.groups+=name: \"body\"",
                     "optimizer.groups.head.learning_rate_factor=5", "optimizer.groups.body.parameters=a*,b*"});
  ASSERT_EQ(config.optimizer().groups_size(), 2);
  EXPECT_EQ(config.optimizer().groups(0).learning_rate_factor(), 5);
  EXPECT_FALSE(config.optimizer().groups(1).has_learning_rate_factor());
  EXPECT_THAT(config.optimizer().groups(1).parameters(), ::testing::ElementsAre("a*", "b*"));
}

TEST(Config, AFieldWithoutDefaultStaysUnset) {
  EXPECT_FALSE(Parsed(kGood).model().head().backward().has_match_norm());
  EXPECT_TRUE(Parsed(kGood, {"model.head.backward.match_norm=false"}).model().head().backward().has_match_norm());
}

TEST(Config, TheShortTextHasWhatIsNotStandard) {
  proto::RunConfig config =
      Parsed("model { layers: 7 norm_epsilon: 1e-5 } optimizer { groups { name: 'a' beta1: 0.9 } }",
             {"model.head.backward.match_norm=false", "batch.sequences=32", "folder="});
  EXPECT_EQ(ShortConfigText(config),
            "folder: \"\"\nmodel {\n  layers: 7\n  head {\n    backward {\n      match_norm: false\n    }\n  }\n}\n"
            "optimizer {\n  groups {\n    name: \"a\"\n    beta1: 0.9\n  }\n}\n");
  EXPECT_EQ(ConfigText(Parsed(ShortConfigText(config))), ConfigText(config));
  // A choice without any setting is one.
  EXPECT_EQ(ShortConfigText(Parsed("", {"data.spamlang.symbols=0"})), "data {\n  spamlang {\n  }\n}\n");
}

struct Override {
  const char* text;
  const char* message;
};

class BadOverride : public ::testing::TestWithParam<Override> {};

TEST_P(BadOverride, IsNamedWithWhatIsAccepted) {
  const auto config = ParseConfig(kGood, "x.textproto", {GetParam().text});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().text));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadOverride,
    ::testing::Values(Override{"model.layers", "needs path.to.field=value"},
                      Override{"=3", "needs path.to.field=value"},
                      Override{"model.depth=3", "unknown field \"depth\"; accepted: vocabulary, width"},
                      Override{"layers=3", "unknown field \"layers\""},
                      Override{"model=3", "a path to one of its fields: vocabulary"},
                      Override{"model.layers.x=3", "is a value, it has no field \"x\""},
                      Override{"optimizer.groups.name=a", "groups accepts the name of an element: there is none"},
                      Override{"optimizer.groups.head.beta2=a", "add one with groups+="},
                      Override{"model.head.sampled.classes=8", "sampled is a list; add to it with sampled+="},
                      Override{"optimizer.groups+=nam: \"a\"", "accepted fields: name, parameters, "},
                      Override{"model.layers=many", "a whole number"}, Override{"model.layers=2.5", "a whole number"},
                      Override{"model.layers=9999999999999999999", "a whole number"},
                      Override{"seed=-1", "not negative"}, Override{"mesh.tensor=4294967296", "32 bits"},
                      Override{"data.pass_over=3,x", "pass_over accepts a whole number"},
                      Override{"optimizer.learning_rate=nan", "a finite number"},
                      Override{"optimizer.learning_rate=inf", "a finite number"},
                      Override{"optimizer.learning_rate=", "a finite number"},
                      Override{"mesh.sequence_parallel=perhaps", "true or false"},
                      Override{"schedule.kind=sine", "CONSTANT, LINEAR, COSINE"},
                      Override{"model.layers+=3", "+= needs a list"}),
    testing::CaseName<&Override::text>());

struct Text {
  const char* text;
  const char* message;
};

class BadText : public ::testing::TestWithParam<Text> {};

TEST_P(BadText, IsNamedWithItsLine) {
  const auto config = ParseConfig(GetParam().text, "x.textproto", {});
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(All, BadText,
                         ::testing::Values(Text{"\nmodell { }", "x.textproto:2:8: "},
                                           Text{"model {\n  depth: 3\n}", "x.textproto:2:8: "},
                                           Text{"seed: \"x\"", "x.textproto:1:7: "}, Text{"model {", "x.textproto:"},
                                           Text{"seed: 1\nseed: 2", "x.textproto:2:"}),
                         testing::CaseName<&Text::text>());

struct Rule {
  const char* override;
  int world;
  const char* message;
};

class ImpossibleSetting : public ::testing::TestWithParam<Rule> {};

TEST_P(ImpossibleSetting, IsRejectedWithFieldValueAndRange) {
  std::vector<std::string> overrides;
  std::string text = GetParam().override;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    overrides.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  proto::RunConfig config = Parsed(kGood, overrides);
  const absl::Status status = Resolve(config, GetParam().world);
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("x.textproto: ") + GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, ImpossibleSetting,
    ::testing::Values(
        Rule{"mesh.tensor=0", 1, "mesh.tensor: 0"}, Rule{"mesh.data=-1", 1, "mesh.data: -1"},
        Rule{"mesh.tensor=2", 3, "mesh.tensor: 2; does not divide the 3 ranks that were started"},
        Rule{"mesh.data=4", 2, "mesh.data: 4; mesh.tensor (1) × mesh.data (4) = 4 ranks, but 2 were started; start 4"},
        Rule{"mesh.bucket_mebibytes=0", 1, "mesh.bucket_mebibytes: 0"},
        Rule{"mesh.bucket_mebibytes=1e300", 1, "mesh.bucket_mebibytes: 1e+300"},
        Rule{"mesh.collective_timeout_seconds=0", 1, "mesh.collective_timeout_seconds: 0"},
        Rule{"data.sequence_length=0", 1, "data.sequence_length: 0"},
        Rule{"batch.sequences=0", 1, "batch.sequences: 0"},
        Rule{"batch.sequences=5", 2, "batch.sequences: 5; is not divisible by mesh.data (2)"},
        Rule{"batch.micro_batch=5", 2,
             "batch.sequences: 24; is not divisible by batch.micro_batch (5) × mesh.data (2) = 10"},
        Rule{"batch.micro_batch=4611686018427387904", 4,
             "batch.micro_batch: 4611686018427387904; is over batch.sequences (24)"},
        Rule{"schedule.steps=9223372036854775807", 1,
             "schedule.steps: 9223372036854775807; makes with batch.sequences (24) × data.sequence_length (16) more"},
        Rule{"batch.micro_batch=-1", 1, "batch.micro_batch: -1"},
        Rule{"mesh.tensor=3 mesh.sequence_parallel=true batch.micro_batch=1 batch.sequences=4 data.sequence_length=16",
             3, "mesh.sequence_parallel: true"},
        Rule{"optimizer.learning_rate=-1", 1, "optimizer.learning_rate: -1"},
        Rule{"optimizer.beta1=1", 1, "optimizer.beta1: 1"}, Rule{"optimizer.beta2=-0.1", 1, "optimizer.beta2: -0.1"},
        Rule{"optimizer.epsilon=0", 1, "optimizer.epsilon: 0"},
        Rule{"optimizer.epsilon=1e-300", 1, "optimizer.epsilon: 1e-300; needs a finite number from 1.17549e-38 on"},
        Rule{"optimizer.weight_decay=-1", 1, "optimizer.weight_decay: -1"},
        Rule{"optimizer.clip_norm=-1", 1, "optimizer.clip_norm: -1"}, Rule{"schedule.steps=0", 1, "schedule.steps: 0"},
        Rule{"schedule.steps=10 schedule.warmup_steps=11", 1,
             "schedule.warmup_steps: 11; accepts 0 to schedule.steps (10)"},
        Rule{"schedule.final_ratio=1.5", 1, "schedule.final_ratio: 1.5"},
        Rule{"schedule.decay_fraction=-1", 1, "schedule.decay_fraction: -1"},
        Rule{"schedule.max_seconds=-1", 1, "schedule.max_seconds: -1"},
        Rule{"precision.loss_chunk=0", 1, "precision.loss_chunk: 0"},
        Rule{"precision.fp8_layers=true", 1, "precision.fp8_layers: true; needs precision.compute BF16, not FP32"},
        Rule{"precision.fp8_layers=true precision.compute=FP64", 1,
             "precision.fp8_layers: true; needs precision.compute BF16, not FP64"},
        Rule{"telemetry.interval=-1", 1, "telemetry.interval: -1"},
        Rule{"telemetry.log_interval=0", 1, "telemetry.log_interval: 0"},
        Rule{"telemetry.validation_interval=-1", 1, "telemetry.validation_interval: -1"},
        Rule{"telemetry.validation_batches=0", 1, "telemetry.validation_batches: 0"},
        Rule{"telemetry.sample_tokens=0", 1, "telemetry.sample_tokens: 0; accepts 1 to 16384"},
        Rule{"telemetry.dump_step=-1", 1, "telemetry.dump_step: -1"},
        Rule{"schedule.steps=20 schedule.warmup_steps=0 telemetry.dump_step=21", 1,
             "telemetry.dump_step: 21; accepts 0 to schedule.steps (20)"},
        Rule{"telemetry.dump_step=2 model.head.future+=weights:1", 1,
             "telemetry.dump_step: 2; accepts 0 with model.head.future"},
        Rule{"telemetry.prometheus.port=65536", 1, "telemetry.prometheus.port: 65536; accepts 1 to 65535, or 0"},
        Rule{"telemetry.prometheus.address=here", 1, "telemetry.prometheus.address: \"here\"; accepts an address"},
        Rule{"stability.spike.window=3", 1, "stability.spike.window: 3; accepts 4 to 65536"},
        Rule{"stability.spike.loss_threshold=-1", 1, "stability.spike.loss_threshold: -1"},
        Rule{"stability.spike.gradient_norm_threshold=-1", 1, "stability.spike.gradient_norm_threshold: -1"},
        Rule{"stability.max_in_a_row=0", 1, "stability.max_in_a_row: 0"},
        Rule{"stability.max_in_window=0", 1, "stability.max_in_window: 0"},
        Rule{"stability.window=0", 1, "stability.window: 0"},
        Rule{"stability.rollback_batches=0", 1, "stability.rollback_batches: 0"},
        Rule{"stability.non_finite.policy=ROLLBACK", 1, "stability.non_finite.policy: ROLLBACK; needs checkpoints"},
        Rule{"stability.spike.policy=ROLLBACK", 1, "stability.spike.policy: ROLLBACK; needs checkpoints on the way"},
        Rule{"data.pass_over=0", 1, "data.pass_over: 0; needs at least 1"}, Rule{"folder=", 1, "folder: \"\""},
        Rule{"data.train=", 1, "data.train: empty"},
        Rule{"data.validation_fraction=0", 1, "data.validation_fraction: 0"},
        Rule{"data.validation_fraction=1", 1, "data.validation_fraction: 1"},
        Rule{"data.prefetch_batches=0", 1, "data.prefetch_batches: 0"}),
    testing::CaseName<&Rule::override>());

TEST(Config, NotANumberInAFileIsRejected) {
  for (const char* text :
       {"optimizer { learning_rate: nan }", "optimizer { weight_decay: inf }", "schedule { max_seconds: nan }"}) {
    proto::RunConfig config =
        Parsed(std::string(kGood).substr(0, std::string(kGood).find("model")) + "data { train: \"t\" }" + text);
    EXPECT_FALSE(Resolve(config, 1).ok()) << text;
  }
}

TEST(Config, ThatOfARunIsAFile) {
  const TemporaryFolder folder;
  EXPECT_TRUE(absl::IsNotFound(LoadRunConfig(folder / "none").status()));
  ASSERT_EQ(mkfifo((folder / "config.textproto").c_str(), 0600), 0);
  const auto config = LoadRunConfig(folder / "");
  EXPECT_TRUE(absl::IsInvalidArgument(config.status())) << config.status();
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.textproto: is not a file"));
}

TEST(Config, FilesThatCannotBeReadAreNamed) {
  EXPECT_EQ(LoadConfig("/nowhere/x.textproto", {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(LoadConfig("/", {}).ok());
}

}  // namespace
}  // namespace isthmus
