#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "runtime/log.h"
#include "runtime/telemetry/jsonl_sink.h"
#include "runtime/telemetry/progress.h"
#include "runtime/telemetry/record_json.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::ReadText;
using testing::TemporaryFolder;

proto::TelemetryRecord Record(int64_t step, double elapsed) {
  proto::TelemetryRecord record;
  record.set_step(step);
  record.set_elapsed_seconds(elapsed);
  record.mutable_train()->set_loss(0.1 + 0.2);
  record.mutable_train()->set_tokens_per_second(1234.4);
  return record;
}

TEST(RecordJson, NamesFieldsByTheirGroupAndKeepsAllDigits) {
  proto::TelemetryRecord record = Record(7, 1.5);
  record.mutable_head()->set_lost_norm_ratio(0.97);
  for (int rank = 0; rank < 2; ++rank) {
    auto& shard = *record.mutable_head()->add_shards();
    shard.set_tp_rank(rank);
    shard.set_retained_energy_share(0.5 + rank);
  }
  const auto json = nlohmann::json::parse(RecordJson(record));
  EXPECT_EQ(json["step"], 7);
  EXPECT_EQ(json["train/loss"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(json["head/lost_norm_ratio"], 0.97);
  EXPECT_EQ(json["head/shards"][1]["retained_energy_share"], 1.5);
  EXPECT_FALSE(json.contains("validation/loss"));
  EXPECT_FALSE(json.contains("train/gradient_norm"));
}

TEST(RecordJson, GoesByTheNumbersOfFields) {
  proto::TelemetryRecord record;
  record.mutable_head()->set_lost_gradient_norm(2);  // declared before the other
  record.mutable_head()->set_visible_cosine(1);
  EXPECT_EQ(RecordJson(record), R"({"head/visible_cosine":1.0,"head/lost_gradient_norm":2.0})");
}

TEST(RecordJson, NumbersThatAreNotFiniteAreNullSoThatEveryReaderCanParseIt) {
  proto::TelemetryRecord record;
  record.mutable_train()->set_loss(std::nan(""));
  record.mutable_train()->set_gradient_norm(std::numeric_limits<double>::infinity());
  EXPECT_EQ(RecordJson(record), R"({"train/loss":null,"train/gradient_norm":null})");
}

TEST(JsonlSink, WritesOneLinePerRecordAndNeverIntoAnotherRun) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  {
    auto sink = JsonlSink::Create(path);
    ASSERT_TRUE(sink.ok());
    EXPECT_TRUE((*sink)->Write(Record(1, 0)).ok());
    EXPECT_TRUE((*sink)->Write(Record(2, 0)).ok());
  }
  const std::string text = ReadText(path);
  EXPECT_EQ(text, RecordJson(Record(1, 0)) + "\n" + RecordJson(Record(2, 0)) + "\n");
  EXPECT_EQ(JsonlSink::Create(path).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadText(path), text);
  EXPECT_EQ(JsonlSink::Create(folder / "no/metrics.jsonl").status().code(), absl::StatusCode::kNotFound);
}

TEST(JsonlSink, ContinuesWithAllWholeRecordsOfEarlierSteps) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const auto line = [](int64_t step) { return RecordJson(Record(step, 0)) + "\n"; };
  const auto continued = [&](const std::string& before, int64_t last_step) {
    testing::WriteText(path, before);
    Notes notes;
    auto sink = JsonlSink::Continue(path, {.last = last_step}, notes);
    EXPECT_TRUE(sink.ok()) << sink.status();
    EXPECT_TRUE((*sink)->Write(Record(9, 0)).ok());
    std::string said;
    for (const std::string& note : notes.Take()) said += note;
    return ReadText(path) + said;
  };
  const std::string whole = line(1) + line(2) + line(3), half = line(4).substr(0, 12);
  EXPECT_EQ(continued(whole + line(4), 3), whole + line(9));
  // The end of a run that was killed.
  EXPECT_EQ(continued(whole + half, 3), whole + line(9));
  EXPECT_EQ(continued("", 3), line(9));
}

TEST(Progress, RewritesOneLineOnATerminal) {
  std::ostringstream out;
  {
    Progress progress(out, true, 20);
    progress.Update(Record(1, 0.1), 75, false);
    progress.Update(Record(2, 0.2), 3700, false);
    progress.Note("a note");
  }
  EXPECT_THAT(out.str(), HasSubstr("\rstep 1/20  loss 0.3000  1234 tokens/s  1:15 left"));
  EXPECT_THAT(out.str(), HasSubstr("\rstep 2/20"));
  EXPECT_THAT(out.str(), HasSubstr("1:01:40 left"));
  EXPECT_THAT(out.str(), HasSubstr("\na note\n"));
}

TEST(Progress, WritesPlainLinesAtIntervalsElsewhere) {
  std::ostringstream out;
  Progress progress(out, false, 20, 10);
  for (int step = 1; step <= 20; ++step) progress.Update(Record(step, step), 1, step == 20);
  const std::string text = out.str();
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;
  EXPECT_THAT(text, HasSubstr("step 20/20"));
}

TEST(Progress, KeepsTheLastMeasuredFigures) {
  std::ostringstream out;
  Progress progress(out, true, 20);
  auto record = Record(1, 1);
  record.mutable_head()->set_lost_norm_ratio(0.9612);
  record.mutable_validation()->set_loss(3.25);
  progress.Update(record, 1, false);
  progress.Update(Record(2, 2), 1, false);
  EXPECT_THAT(out.str().substr(out.str().rfind('\r')), HasSubstr("validation 3.2500  gradient lost 96.1 %"));
}

TEST(Log, AppendsLinesWithRankAndStep) {
  const TemporaryFolder folder;
  for (int run = 0; run < 2; ++run) {
    auto log = Log::Open(folder.path(), 3);
    ASSERT_TRUE(log.ok()) << log.status();
    (*log)->set_step(17);
    (*log)->Info("hello {} %s");
    (*log)->Error("trouble");
  }
  const std::string text = ReadText(folder / "log/rank-0003.log");
  EXPECT_THAT(text, HasSubstr(" info rank=3 step=17 hello {} %s\n"));
  EXPECT_THAT(text, HasSubstr(" error rank=3 step=17 trouble\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
  EXPECT_FALSE(Log::Open("/proc/none", 0).ok());
}

}  // namespace
}  // namespace isthmus
