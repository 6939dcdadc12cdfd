// Configurations with absurd numbers give an error that names the field, or figures that are right.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "launch/plan/plan.h"
#include "runtime/config.h"
#include "tests/support/tiny_model.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;

constexpr char kSmall[] = R"(
folder: "runs/x"
model { vocabulary: 512 width: 64 layers: 2 heads: 8 feed_forward: 96 }
data { train: "tokens" sequence_length: 16 }
batch { sequences: 16 }
precision { compute: BF16 }
)";

// Adds "model.width" and the paths of all other fields with one number.
void AddNumbers(const google::protobuf::Descriptor& message, const std::string& prefix,
                std::vector<std::string>& paths) {
  using Field = google::protobuf::FieldDescriptor;
  for (int i = 0; i < message.field_count(); ++i) {
    const Field& field = *message.field(i);
    const std::string path = prefix + field.name();
    if (field.is_repeated()) continue;
    if (field.cpp_type() == Field::CPPTYPE_MESSAGE) AddNumbers(*field.message_type(), path + ".", paths);
    const auto type = field.cpp_type();
    if (type == Field::CPPTYPE_DOUBLE || type == Field::CPPTYPE_INT32 || type == Field::CPPTYPE_INT64 ||
        type == Field::CPPTYPE_UINT64) {
      paths.push_back(path);
    }
  }
}

// Checks figures that every overflow would change.
void ExpectSensible(const Plan& plan) {
  const MemoryBytes bytes = plan.memory.bytes();
  for (const int64_t segment : {bytes.weights, bytes.gradients, bytes.optimizer, bytes.activations, bytes.head,
                                bytes.decomposition, bytes.tokens, bytes.scratch, plan.staging_bytes}) {
    EXPECT_GE(segment, 0);
    EXPECT_LT(segment, int64_t{1} << 60);
  }
  EXPECT_GE(bytes.gradients, bytes.weights);
  EXPECT_GT(plan.parameters.total(), 0);
  EXPECT_GT(plan.Tokens(), 0);
  EXPECT_TRUE(std::isfinite(plan.step.time.Total()));
  EXPECT_GT(plan.step.time.Total(), 0);
}

absl::StatusOr<Plan> PlanWith(const std::vector<std::string>& overrides, int world) {
  auto config = ParseConfig(kSmall, "x.textproto", overrides);
  if (!config.ok()) return config.status();
  return MakePlan(*std::move(config), *GpuMachine("h100"), world, "x.textproto");
}

TEST(ExtremeConfig, EachNumberIsRefusedByNameOrPlanned) {
  std::vector<std::string> paths;
  AddNumbers(*proto::RunConfig::descriptor(), "", paths);
  ASSERT_GT(paths.size(), 40u);
  for (const std::string& path : paths) {
    for (const char* number : {"-1", "0", "1", "2147483647", "2147483648", "4294967296", "9223372036854775807",
                               "-9223372036854775808", "18446744073709551615", "18446744073709551616", "1e400",
                               "-1e400", "nan", "inf", "1e308", "-1e308", "1e-320"}) {
      SCOPED_TRACE(absl::StrCat(path, "=", number));
      std::vector<std::string> overrides = {absl::StrCat(path, "=", number)};
      if (absl::StrContains(path, "spamlang")) overrides.emplace_back("data.train=");  // made-up data have no files
      const auto plan = PlanWith(overrides, 2);
      if (plan.ok()) {
        ExpectSensible(*plan);
        continue;
      }
      EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(plan.status().message()), HasSubstr(path.substr(path.rfind('.') + 1)));
    }
  }
}

// Each number is within its own limits, but their products may need too much.
TEST(ExtremeConfig, ProductsOfLargeNumbersAreRefusedOrPlanned) {
  std::mt19937_64 random(11);  // NOLINT(cert-msc51-cpp): the same seed each time
  const auto power = [&](int least, int most) {
    return int64_t{1} << std::uniform_int_distribution<int>(least, most)(random);
  };
  int planned = 0;
  const int trials = testing::TestsAreFew() ? 200 : 2000;
  for (int i = 0; i < trials; ++i) {
    const int64_t tensor = power(0, 6), data = power(0, 8), heads = tensor * power(0, 8);
    const std::vector<std::string> overrides = {
        absl::StrCat("model.width=", heads * power(1, 14)),
        absl::StrCat("model.heads=", heads),
        absl::StrCat("model.head_dim=", power(1, 12)),
        absl::StrCat("model.feed_forward=", tensor * power(1, 18)),
        absl::StrCat("model.layers=", power(0, 6)),
        absl::StrCat("model.head_rank=", i % 3 == 0 ? power(0, 14) : 0),
        absl::StrCat("model.vocabulary=", i % 2 == 0 ? (int64_t{1} << 31) - 1 : power(8, 30)),
        absl::StrCat("data.sequence_length=", power(0, 24)),
        absl::StrCat("batch.sequences=", data * power(0, 16)),
        absl::StrCat("batch.micro_batch=", i % 2),
        absl::StrCat("precision.loss_chunk=", power(0, 62)),
        absl::StrCat("telemetry.sample_tokens=", power(0, 14)),
        absl::StrCat("mesh.tensor=", tensor),
        absl::StrCat("mesh.sequence_parallel=", i % 5 == 0 ? "true" : "false"),
        absl::StrCat("schedule.steps=", power(0, 62)),
    };
    SCOPED_TRACE(::testing::PrintToString(overrides));
    const auto plan = PlanWith(overrides, static_cast<int>(tensor * data));
    if (plan.ok()) {
      ExpectSensible(*plan);
      ++planned;
    } else {
      EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument) << plan.status();
    }
  }
  EXPECT_GT(planned, trials / 100);
}

TEST(ExtremeConfig, NestingAndSizeOfAFileHaveLimits) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "model { ";
  EXPECT_EQ(ParseConfig(deep, "deep", {}).status().code(), absl::StatusCode::kInvalidArgument);
  const auto endless = LoadConfig("/dev/zero", {});
  EXPECT_EQ(endless.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(endless.status().message(), "/dev/zero: has more than 16777216 bytes; accepts at most 16777216");
}

}  // namespace
}  // namespace isthmus
