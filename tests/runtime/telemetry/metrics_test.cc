// A record's figures under the names of Prometheus and TensorBoard.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "proto/tensorboard_event.pb.h"
#include "runtime/crc32c.h"
#include "runtime/telemetry/figures.h"
#include "runtime/telemetry/help_text.h"
#include "runtime/telemetry/prometheus_metrics.h"
#include "runtime/telemetry/record_json.h"
#include "runtime/telemetry/tensorboard_sink.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::ReadText;
using testing::TemporaryFolder;

// One of each kind of figure.
proto::TelemetryRecord Record() {
  proto::TelemetryRecord record;
  record.set_step(7);
  record.set_tokens(7000);
  record.set_timestamp_seconds(1.5e9);
  record.mutable_run()->set_version("1.2");
  record.mutable_run()->set_device("CPU");
  record.mutable_train()->set_loss(2.5);
  record.mutable_time()->set_forward_seconds(0.25);
  auto& phase = *record.mutable_time()->add_phases();
  phase.set_phase("forward");
  phase.set_minimum_seconds(0.125);
  phase.set_maximum_seconds(0.25);
  phase.set_slowest_rank(3);
  auto& histogram = *record.mutable_time()->mutable_step_seconds();
  for (const double bound : {1.0, 2.0, 4.0}) histogram.add_bounds(bound);
  for (const int count : {0, 3, 1, 0}) histogram.add_counts(count);
  histogram.set_sum(7.5);
  for (int rank = 0; rank < 2; ++rank) {
    auto& shard = *record.mutable_head()->add_shards();
    shard.set_tp_rank(rank);
    shard.set_retained_energy_share(0.5 + 0.25 * rank);
  }
  auto& rank = *record.mutable_rank();
  rank.set_rank(5);
  rank.set_dp_rank(2);
  auto& own = *rank.add_phases();
  own.set_phase("data");
  own.set_seconds(0.5);
  record.mutable_sinks()->set_jsonl_dropped_total(4);
  return record;
}

TEST(Figures, AreNamedByGroupListAndLabel) {
  std::map<std::string, std::string> metrics;
  std::vector<std::pair<std::string, std::string>> labels;
  ForEachFigure(Record(), [&](const Figure& figure) {
    metrics[figure.tag] = figure.metric;
    if (figure.tag == "rank/phases/data/seconds") labels = figure.labels;
  });
  EXPECT_EQ(metrics["train/loss"], "train_loss");
  EXPECT_EQ(metrics["head/shards/1/retained_energy_share"], "head_shard_retained_energy_share");
  EXPECT_EQ(metrics["time/phases/forward/slowest_rank"], "time_phase_slowest_rank");
  EXPECT_EQ(metrics["time/step_seconds"], "time_step_seconds");
  EXPECT_THAT(labels, ::testing::ElementsAre(std::make_pair("rank", "5"), std::make_pair("dp_rank", "2"),
                                             std::make_pair("phase", "data")));
  EXPECT_EQ(metrics.count("rank/dp_rank"), 0u);
}

TEST(RecordJson, WritesAHistogramAsOneObject) {
  EXPECT_THAT(RecordJson(Record()),
              HasSubstr(R"("time/step_seconds":{"bounds":[1.0,2.0,4.0],"counts":[0,3,1,0],"sum":7.5})"));
}

TEST(HelpText, IsTheFieldsOwnComment) {
  EXPECT_EQ(HelpText(*proto::TrainRecord::descriptor()->FindFieldByName("loss")),
            "Mean cross-entropy of the step's tokens, in nats.");
  EXPECT_EQ(HelpText(*proto::TrainRecord::descriptor()->FindFieldByName("full_utilisation_ratio")),
            "Floating-point operations of the step against the peak, attention counted in full; absent where the "
            "causal ratio is.");
  EXPECT_EQ(HelpText(*proto::Histogram::descriptor()->FindFieldByName("counts")), "one more than bounds");
}

// Every figure of a message.
void ExpectSentences(const google::protobuf::Descriptor& message) {
  for (int i = 0; i < message.field_count(); ++i) {
    const auto& field = *message.field(i);
    const auto* inner = field.message_type();
    if (inner != nullptr && inner != proto::Histogram::descriptor()) {
      ExpectSentences(*inner);
      continue;
    }
    EXPECT_THAT(HelpText(field), ::testing::MatchesRegex("[A-Z].*\\.")) << field.full_name();
  }
}

TEST(HelpText, IsASentenceForEveryFigure) { ExpectSentences(*proto::TelemetryRecord::descriptor()); }

TEST(PrometheusMetrics, OfAListOnlyWhatTheLatestRecordNamesStays) {
  PrometheusMetrics metrics;
  const auto straggler = [](int rank, double ratio, proto::TelemetryRecord& record) {
    auto& one = *record.add_stragglers();
    one.set_rank(rank);
    one.set_phase("compute");
    one.set_slowdown_ratio(ratio);
  };
  proto::TelemetryRecord first, without, next;
  straggler(3, 1.5, first);
  straggler(4, 1.25, first);
  without.mutable_train()->set_loss(1);
  straggler(4, 1.75, next);
  metrics.Update(first);
  metrics.Update(without);
  EXPECT_THAT(metrics.Text(), HasSubstr("isthmus_straggler_slowdown_ratio{rank=\"3\",phase=\"compute\"} 1.5\n"));
  metrics.Update(next);
  EXPECT_THAT(metrics.Text(), HasSubstr("isthmus_straggler_slowdown_ratio{rank=\"4\",phase=\"compute\"} 1.75\n"));
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("rank=\"3\"")));
}

TEST(PrometheusMetrics, HaveTypesHelpAndLabels) {
  PrometheusMetrics metrics;
  metrics.Update(Record());
  metrics.Update(Record());
  const std::string text = metrics.Text();
  for (const char* line : {
           "# TYPE isthmus_steps_total counter\nisthmus_steps_total 7\n",
           "isthmus_tokens_total 7000\n",
           "# TYPE isthmus_last_step_timestamp_seconds gauge\nisthmus_last_step_timestamp_seconds 1500000000\n",
           "isthmus_build_info{version=\"1.2\"} 1\n",
           "isthmus_run_info{device=\"CPU\"} 1\n",
           "# HELP isthmus_train_loss Mean cross-entropy of the step's tokens, in nats.\n# TYPE isthmus_train_loss "
           "gauge\n",
           "isthmus_time_phase_minimum_seconds{phase=\"forward\"} 0.125\n",
           "isthmus_time_phase_slowest_rank{phase=\"forward\"} 3\n",
           "isthmus_head_shard_retained_energy_share{tp_rank=\"0\"} 0.5\n",
           "isthmus_head_shard_retained_energy_share{tp_rank=\"1\"} 0.75\n",
           "isthmus_rank_phase_seconds{rank=\"5\",dp_rank=\"2\",phase=\"data\"} 0.5\n",
           "# TYPE isthmus_sinks_jsonl_dropped_total counter\nisthmus_sinks_jsonl_dropped_total 4\n",
           // Two records of four steps each: two times no, six times at most two seconds, all below four.
           "# TYPE isthmus_time_step_seconds histogram\nisthmus_time_step_seconds_count 8\n",
           "isthmus_time_step_seconds_sum 15\n",
           "isthmus_time_step_seconds_bucket{le=\"1\"} 0\n",
           "isthmus_time_step_seconds_bucket{le=\"2\"} 6\n",
           "isthmus_time_step_seconds_bucket{le=\"4\"} 8\n",
           "isthmus_time_step_seconds_bucket{le=\"+Inf\"} 8\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("isthmus_time_forward_seconds")));
}

TEST(Crc32c, IsThatOfTheStandard) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, appendix B.4
  EXPECT_EQ(Crc32c(""), 0u);
}

std::vector<proto::tensorboard::Event> Events(const std::string& bytes) {
  std::vector<proto::tensorboard::Event> events;
  for (size_t at = 0; at < bytes.size();) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data() + at, 8);
    EXPECT_TRUE(events.emplace_back().ParseFromString(bytes.substr(at + 12, length)));
    at += 16 + length;
  }
  return events;
}

TEST(TensorboardSink, StartsASessionAndWritesScalarsAndHistograms) {
  const TemporaryFolder folder;
  EXPECT_TRUE(absl::IsNotFound(TensorboardSink::Create(folder / "gone", 7).status()));
  {
    auto sink = TensorboardSink::Create(folder.path(), 7);
    ASSERT_TRUE(sink.ok()) << sink.status();
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    ASSERT_TRUE((*sink)->Write(Record()).ok());
  }
  const auto entry = *std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(entry.path().filename().string().rfind("events.out.tfevents.", 0), 0u);
  const auto events = Events(ReadText(entry.path().string()));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[1].session_log().status(), proto::tensorboard::SessionLog::START);
  EXPECT_EQ(events[1].step(), 7);
  EXPECT_EQ(events[2].step(), 7);
  EXPECT_EQ(events[2].wall_time(), 1.5e9);
  std::map<std::string, const proto::tensorboard::Summary::Value*> values;
  for (const auto& value : events[2].summary().value()) values[value.tag()] = &value;
  EXPECT_EQ(values.count("step"), 0u);
  ASSERT_EQ(values.count("train/loss"), 1u);
  EXPECT_EQ(values["train/loss"]->simple_value(), 2.5f);
  ASSERT_EQ(values.count("time/step_seconds"), 1u);
  const auto& histogram = values["time/step_seconds"]->histo();
  EXPECT_EQ(histogram.num(), 4);
  EXPECT_EQ(histogram.sum(), 7.5);
  EXPECT_EQ(histogram.min(), 1);
  EXPECT_EQ(histogram.max(), 4);
  EXPECT_THAT(histogram.bucket(), ::testing::ElementsAre(0, 3, 1, 0));
  EXPECT_EQ(histogram.bucket_limit(2), 4);
}

}  // namespace
}  // namespace isthmus
