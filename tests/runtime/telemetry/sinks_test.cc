// The fan-out to sinks, and the files that they write.
#include "runtime/telemetry/sinks.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <iostream>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/prometheus_sink.h"
#include "runtime/telemetry/textfile_sink.h"
#include "tests/support/as_nobody.h"
#include "tests/support/http.h"
#include "tests/support/no_threads.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ReadText;
using testing::TemporaryFolder;

proto::TelemetryRecord Record(int64_t step) {
  proto::TelemetryRecord record;
  record.set_step(step);
  record.mutable_train()->set_loss(1.0 / static_cast<double>(step));
  return record;
}

// Holds the records that a sink of a test saw, and whether it may go on.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool open = true;
  std::vector<proto::TelemetryRecord> seen;

  void Open() {
    const std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
  void AwaitSeen(size_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return seen.size() >= count; });
  }
};

class GatedSink : public TelemetrySink {
 public:
  explicit GatedSink(std::shared_ptr<Gate> gate, int64_t fails_from = 1 << 30, int64_t fails_to = 1 << 30)
      : gate_(std::move(gate)), fails_from_(fails_from), fails_to_(fails_to) {}
  const char* name() const override { return "gated"; }
  absl::Status Write(const proto::TelemetryRecord& record) override {
    std::unique_lock lock(gate_->mutex);
    gate_->seen.push_back(record);
    gate_->changed.notify_all();
    gate_->changed.wait(lock, [&] { return gate_->open; });
    const bool fails = record.step() >= fails_from_ && record.step() < fails_to_;
    return fails ? absl::UnavailableError("no use") : absl::OkStatus();
  }

 private:
  std::shared_ptr<Gate> gate_;
  int64_t fails_from_, fails_to_;
};

TEST(Sinks, EverySinkGetsEveryRecordInOrderBeforeCloseReturns) {
  const auto first = std::make_shared<Gate>(), second = std::make_shared<Gate>();
  Sinks sinks;
  sinks.Add(std::make_unique<GatedSink>(first), &proto::SinksRecord::set_jsonl_dropped_total);
  sinks.Add(std::make_unique<GatedSink>(second), &proto::SinksRecord::set_tensorboard_dropped_total);
  for (int64_t step = 1; step <= 200; ++step) sinks.Publish(Record(step));
  sinks.Close(absl::Minutes(30));
  for (const auto& gate : {first, second}) {
    ASSERT_EQ(gate->seen.size(), 200u);
    for (size_t i = 0; i < 200; ++i) {
      EXPECT_EQ(gate->seen[i].step(), i + 1);
      EXPECT_EQ(gate->seen[i].train().loss(), 1.0 / static_cast<double>(i + 1));
      EXPECT_EQ(gate->seen[i].sinks().jsonl_dropped_total(), 0);
    }
  }
  EXPECT_THAT(sinks.TakeNotes(), IsEmpty());
}

TEST(Sinks, ASinkThatHangsStopsNeitherTheRunNorOtherSinksAndIsCounted) {
  const auto stuck = std::make_shared<Gate>(), healthy = std::make_shared<Gate>();
  stuck->open = false;
  {
    Sinks sinks(2);
    sinks.Add(std::make_unique<GatedSink>(stuck), &proto::SinksRecord::set_textfile_dropped_total);
    sinks.Add(std::make_unique<GatedSink>(healthy), &proto::SinksRecord::set_jsonl_dropped_total);
    for (int64_t step = 1; step <= 10; ++step) {
      sinks.Publish(Record(step));
      healthy->AwaitSeen(static_cast<size_t>(step));
      if (step == 1) stuck->AwaitSeen(1);
    }
    // One record is in hand, two are in the queue, seven are lost; the tenth record tells of the six before it.
    EXPECT_EQ(sinks.dropped(0), 7);
    EXPECT_EQ(sinks.dropped(1), 0);
    EXPECT_EQ(healthy->seen.back().sinks().textfile_dropped_total(), 6);
    EXPECT_THAT(sinks.TakeNotes(), ElementsAre(HasSubstr("gated: does not keep up")));
    sinks.Close(absl::Milliseconds(100));
    EXPECT_EQ(sinks.dropped(0), 10);
    EXPECT_THAT(sinks.TakeNotes(), ElementsAre(AllOf(HasSubstr("did not finish in 100ms"), HasSubstr("up to 3 "))));
  }
  EXPECT_EQ(healthy->seen.size(), 10u);
  EXPECT_EQ(stuck->seen.size(), 1u);
  stuck->Open();  // its thread ends by itself
}

TEST(Sinks, AFailureIsSaidOnceCountedForEachRecordAndEndsWithANote) {
  const auto gate = std::make_shared<Gate>();
  Sinks sinks;
  sinks.Add(std::make_unique<GatedSink>(gate, 3, 6), &proto::SinksRecord::set_prometheus_dropped_total);
  for (int64_t step = 1; step <= 9; ++step) sinks.Publish(Record(step));
  sinks.Close(absl::Minutes(30));
  EXPECT_EQ(gate->seen.size(), 9u);
  EXPECT_EQ(sinks.dropped(0), 3);
  EXPECT_THAT(sinks.TakeNotes(), ElementsAre(HasSubstr("gated: no use"), HasSubstr("works again; 3 records")));
}

TEST(Sinks, ASinkWhoseThreadCannotBeStartedLosesItsRecordsAndSaysSo) {
  const auto lost = std::make_shared<Gate>(), healthy = std::make_shared<Gate>();
  Sinks sinks;
  {
    const testing::NoThreads no_threads;
    sinks.Add(std::make_unique<GatedSink>(lost), &proto::SinksRecord::set_textfile_dropped_total);
  }
  sinks.Add(std::make_unique<GatedSink>(healthy), &proto::SinksRecord::set_jsonl_dropped_total);
  for (int64_t step = 1; step <= 3; ++step) sinks.Publish(Record(step));
  sinks.Close(absl::Minutes(30));
  EXPECT_EQ(sinks.dropped(0), 3);
  EXPECT_EQ(healthy->seen.size(), 3u);
  EXPECT_EQ(healthy->seen.back().sinks().textfile_dropped_total(), 2);
  EXPECT_THAT(sinks.TakeNotes(), ElementsAre(AllOf(HasSubstr("gated: a thread can't be started"),
                                                   HasSubstr("all records are lost to it"))));
}

class ThrowingSink : public TelemetrySink {
 public:
  const char* name() const override { return "throwing"; }
  absl::Status Write(const proto::TelemetryRecord&) override { throw std::bad_alloc(); }
};

TEST(Sinks, ASinkThatThrowsIsOneThatFails) {
  Sinks sinks;
  sinks.Add(std::make_unique<ThrowingSink>(), &proto::SinksRecord::set_textfile_dropped_total);
  for (int64_t step = 1; step <= 3; ++step) sinks.Publish(Record(step));
  sinks.Close(absl::Minutes(30));
  EXPECT_EQ(sinks.dropped(0), 3);
  EXPECT_THAT(sinks.TakeNotes(), ElementsAre(AllOf(HasSubstr("throwing: "), HasSubstr("std::bad_alloc"))));
}

// A limit on the size of files takes a part of what is written, as a full disk does.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, SIG_DFL);
  }

 private:
  rlimit before_{};
};

TEST(AppendFile, APieceIsWrittenWholeOrNotAtAll) {
  const TemporaryFolder folder;
  const auto file = AppendFile::Create(folder / "file");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Append("first\n").ok());
  {
    const FileLimit limit(10);
    EXPECT_FALSE((*file)->Append("the second is too long\n").ok());
    EXPECT_EQ(ReadText(folder / "file"), "first\n");
    EXPECT_TRUE((*file)->Append("2.\n").ok());
  }
  EXPECT_TRUE((*file)->Append("third\n").ok());
  EXPECT_EQ(ReadText(folder / "file"), "first\n2.\nthird\n");
}

TEST(TextfileSink, ReplacesTheFileAsAWholeAndLeavesItWhereItCannot) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.prom";
  {
    TextfileSink sink(path);
    const absl::Time begin = absl::Now();
    ASSERT_TRUE(sink.Write(Record(1)).ok());
    EXPECT_THAT(ReadText(path), HasSubstr("\nisthmus_train_loss 1\n"));
    EXPECT_THAT(ReadText(path), HasSubstr("\nisthmus_run_ended 0\n"));
    // Within a second the file stays; the last record is written at the end.
    ASSERT_TRUE(sink.Write(Record(2)).ok());
    const std::string second = ReadText(path);
    if (absl::Now() - begin < absl::Seconds(1)) {
      EXPECT_THAT(second, HasSubstr("\nisthmus_train_loss 1\n"));
    }
    ASSERT_TRUE(sink.Finish().ok());
  }
  const std::string text = ReadText(path);
  EXPECT_THAT(text, HasSubstr("\nisthmus_train_loss 0.5\n"));
  EXPECT_THAT(text, HasSubstr("\nisthmus_run_ended 1\n"));
  EXPECT_TRUE(TextfileSink(path).Finish().ok());
  EXPECT_EQ(ReadText(path), text);
  TextfileSink sink(path);
  {
    const FileLimit limit(100);
    const absl::Status failed = sink.Write(Record(4));
    EXPECT_FALSE(failed.ok());
    // It is not tried again at once, and the failure stays.
    EXPECT_EQ(sink.Write(Record(5)), failed);
  }
  EXPECT_EQ(ReadText(path), text);
  EXPECT_THAT(ReadText(path + ".partial"), IsEmpty());
  TextfileSink nowhere(folder / "gone/metrics.prom");
  EXPECT_TRUE(absl::IsNotFound(nowhere.Write(Record(1))));
}

TEST(PrometheusSink, SaysThatNoThreadCanBeStarted) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become a user who may start no thread";
  const int port = testing::Socket::Listen().port();  // free from here on
  EXPECT_TRUE(testing::AsNobody([&] {
    const rlimit one{.rlim_cur = 1, .rlim_max = 1};
    setrlimit(RLIMIT_NPROC, &one);
    PrometheusSink sink("127.0.0.1", port, std::make_shared<Notes>());
    for (int64_t step = 1; step <= 2; ++step) {
      const absl::Status status = sink.Write(Record(step));
      if (!absl::IsResourceExhausted(status) || !absl::StrContains(status.message(), "a thread can't be started")) {
        std::cerr << status << std::endl;
        return false;
      }
    }
    return true;
  }));
}

TEST(PrometheusSink, TakesItsPortWhenItIsFreeAndClosesSlowConnections) {
  auto taken = std::make_unique<testing::Socket>(testing::Socket::Listen());
  const int port = taken->port();
  const auto notes = std::make_shared<Notes>();
  PrometheusSink sink("127.0.0.1", port, notes);
  const absl::Time refused = absl::Now();
  EXPECT_TRUE(absl::IsUnavailable(sink.Write(Record(1))));
  taken.reset();
  const absl::Status soon = sink.Write(Record(2));
  if (absl::Now() - refused < absl::Seconds(1)) {
    EXPECT_TRUE(absl::IsUnavailable(soon)) << "not tried again at once";
  }
  bool serves = false;
  while (!serves) {
    absl::SleepFor(absl::Milliseconds(100));
    serves = sink.Write(Record(4)).ok();
  }
  ASSERT_TRUE(serves);
  EXPECT_THAT(notes->Take(), ElementsAre(HasSubstr("at http://127.0.0.1:")));
  EXPECT_THAT(testing::HttpGet(port, "/metrics"), HasSubstr("\nisthmus_train_loss 0.25\n"));
  EXPECT_THAT(testing::HttpGet(port, "/"), IsEmpty());
  EXPECT_THAT(testing::HttpGet(port, "/../../etc/passwd"), IsEmpty());

  // Sends half a request, and a byte of it now and then.
  const absl::Time begin = absl::Now();  // taken before the server's clock starts
  const auto slow = testing::Socket::Connect(port);
  ASSERT_TRUE(slow.Send("GET /metrics HTTP/1.1\r\nX-Slow: "));
  while (slow.Send("z")) absl::SleepFor(absl::Milliseconds(100));
  EXPECT_GT(absl::Now() - begin, absl::Seconds(1));
  EXPECT_THAT(testing::HttpGet(port, "/metrics"), HasSubstr("\nisthmus_train_loss 0.25\n"));
}

}  // namespace
}  // namespace isthmus
