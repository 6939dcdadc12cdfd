// If a disk takes no file while a run trains, that costs the records until it does, not the run.
#include "launch/run/late_sink.h"

#include <absl/strings/match.h>
#include <absl/strings/str_join.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "launch/run/run_sinks.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

proto::TelemetryRecord RecordOf(int64_t step) {
  proto::TelemetryRecord record;
  record.set_step(step);
  return record;
}

class StepsSink : public TelemetrySink {
 public:
  explicit StepsSink(std::vector<int64_t>& steps) : steps_(steps) {}
  const char* name() const override { return "steps"; }
  absl::Status Write(const proto::TelemetryRecord& record) override {
    steps_.push_back(record.step());
    return absl::OkStatus();
  }
  absl::Status Finish() override {
    steps_.push_back(-1);
    return absl::OkStatus();
  }

 private:
  std::vector<int64_t>& steps_;
};

TEST(LateSink, LosesRecordsUntilItCanBeOpened) {
  std::vector<int64_t> steps;
  int tries = 0;
  LateSink sink("steps", [&]() -> absl::StatusOr<std::unique_ptr<TelemetrySink>> {
    if (++tries < 3) return absl::ResourceExhaustedError("no space left");
    return std::make_unique<StepsSink>(steps);
  });
  EXPECT_STREQ(sink.name(), "steps");
  for (int64_t step = 1; step <= 2; ++step) EXPECT_TRUE(absl::IsResourceExhausted(sink.Write(RecordOf(step))));
  for (int64_t step = 3; step <= 4; ++step) EXPECT_TRUE(sink.Write(RecordOf(step)).ok());
  EXPECT_TRUE(sink.Finish().ok());
  EXPECT_EQ(steps, (std::vector<int64_t>{3, 4, -1}));
  EXPECT_EQ(tries, 3);
}

TEST(RunSinks, ThatCanNotBeOpenedEndARunAtItsStartAndCostRecordsLater) {
  const TemporaryFolder folder;
  proto::RunConfig config;
  config.set_folder(folder / "run");  // is not there
  config.mutable_telemetry()->set_textfile(false);
  EXPECT_FALSE(OpenSinks(config, 0, 0, {.first_step = 4, .continued = true}).ok());
  const auto sinks = OpenSinks(config, 0, 0, {.first_step = 4, .continued = true, .while_training = true});
  ASSERT_TRUE(sinks.ok()) << sinks.status();
  (*sinks)->Publish(RecordOf(4));
  std::vector<std::string> notes;
  while (notes.size() < 2) {
    for (std::string& note : (*sinks)->TakeNotes()) notes.push_back(std::move(note));
  }
  const std::string said = absl::StrJoin(notes, "\n");
  EXPECT_TRUE(absl::StrContains(said, "metrics.jsonl: ")) << said;
  EXPECT_TRUE(absl::StrContains(said, "TensorBoard events: ")) << said;
  std::filesystem::create_directory(config.folder());
  (*sinks)->Publish(RecordOf(5));
  (*sinks)->Close(absl::Seconds(60));
  const auto records = Records(config.folder());
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0]["step"], 5);
  EXPECT_EQ(records[0]["sinks/jsonl_dropped_total"], 1);
  EXPECT_EQ(records[0]["sinks/tensorboard_dropped_total"], 1);
}

TEST(RunSinks, KnowHowManyTokensAStepOfTheRunHas) {
  const TemporaryFolder folder;
  proto::RunConfig config;
  config.set_folder(folder.path());
  config.mutable_batch()->set_sequences(4);
  config.mutable_data()->set_sequence_length(64);
  const std::string records = folder / "metrics.jsonl", sound = "{\"step\":6,\"tokens\":1536}\n";
  WriteText(records, "{\"step\":4,\"tokens\":768}\n" + sound);
  ASSERT_TRUE(OpenSinks(config, 0, 0, {.first_step = 7, .continued = true}).ok());
  EXPECT_EQ(ReadText(records), sound);
  EXPECT_TRUE(std::filesystem::exists(records + ".1"));
}

TEST(RunSinks, NeedAPortForEveryRankOfANode) {
  proto::RunConfig config;
  auto& prometheus = *config.mutable_telemetry()->mutable_prometheus();
  prometheus.set_port(65533);
  EXPECT_TRUE(CheckPort(config, 7, "x").ok()) << "only rank 0 is shown";
  prometheus.set_every_rank(true);
  EXPECT_TRUE(CheckPort(config, 2, "x").ok());
  EXPECT_EQ(CheckPort(config, 3, "x.textproto").message(),
            "x.textproto: telemetry.prometheus.port: 65533; with every_rank the rank at place 3 of its node would need "
            "port 65536; use at most 65532");
}

}  // namespace
}  // namespace isthmus::testing
