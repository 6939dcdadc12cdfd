// Whatever happens to a run's telemetry, training goes on with the same losses to the bit, and exit status 0.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/http.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kSteps = 400;

class TelemetryFaults : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    project_ = new TinyProject;
    const ProgramResult result = Train("quiet", "telemetry.tensorboard=false telemetry.textfile=false");
    ASSERT_EQ(result.exit_status, 0) << result.out;
    losses_ = new std::vector<double>(Losses(*project_ / "quiet"));
    ASSERT_EQ(losses_->size(), static_cast<size_t>(kSteps));
  }
  static void TearDownTestSuite() {
    delete project_;
    delete losses_;
  }
  static TinyProject& project() { return *project_; }
  // The losses of the run without sinks, listeners and faults.
  static const std::vector<double>& losses() { return *losses_; }

  // `settings` are arguments of --set, separated by spaces.
  static std::string TrainArguments(const std::string& name, const std::string& settings) {
    std::string arguments = absl::StrCat("train --config ", project_->WriteConfig(name),
                                         " --set schedule.steps=", kSteps, " --set telemetry.validation_interval=0");
    for (const auto setting : absl::StrSplit(settings, ' ', absl::SkipEmpty()))
      absl::StrAppend(&arguments, " --set ", setting);
    return arguments;
  }
  static ProgramResult Train(const std::string& name, const std::string& settings) {
    return RunIsthmus(TrainArguments(name, settings), 2);
  }
  // Does the same, but at step 300 the run waits until GoOn. A rank may wait for another that long.
  static ProgramResult TrainWithAPause(const std::string& name, const std::string& settings) {
    return RunWithFaults(absl::StrCat("step.begin@0#300=await:", *project_ / name, ".go"),
                         TrainArguments(name, settings + " mesh.collective_timeout_seconds=3600"), 2);
  }
  static void GoOn(const std::string& name) { WriteText(absl::StrCat(*project_ / name, ".go"), ""); }

 private:
  static TinyProject* project_;
  static std::vector<double>* losses_;
};
TinyProject* TelemetryFaults::project_ = nullptr;
std::vector<double>* TelemetryFaults::losses_ = nullptr;

TEST_F(TelemetryFaults, APortThatIsTakenIsALogLineAndACounter) {
  const Socket taken = Socket::Listen();
  ASSERT_TRUE(taken.valid());
  const ProgramResult result = Train("taken", absl::StrCat("telemetry.prometheus.port=", taken.port()));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(Losses(project() / "taken"), losses());
  const std::string endpoint = absl::StrCat("127.0.0.1:", taken.port());
  EXPECT_THAT(ReadText(project() / "taken/log/rank-0000.log"), HasSubstr(endpoint + ": can't listen there"));
  const auto last = Records(project() / "taken").back();
  EXPECT_GT(last["sinks/prometheus_dropped_total"], 0);
  EXPECT_EQ(last["sinks/jsonl_dropped_total"], 0);
  EXPECT_THAT(ReadText(project() / "taken/metrics.prom"), HasSubstr("\nisthmus_sinks_prometheus_dropped_total "));
}

// The sink hangs as if its file were on a network disk that is gone.
TEST_F(TelemetryFaults, ASinkThatHangsIsLeftBehind) {
  const ProgramResult result =
      RunWithFaults(absl::StrCat("textfile.write@0=await:", project() / "never"), TrainArguments("hangs", ""), 2);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(Losses(project() / "hangs"), losses());
  EXPECT_THAT(ReadText(project() / "hangs/log/rank-0000.log"), HasSubstr("metrics.prom: did not finish in 5s"));
}

// The disk of this test is a small file system of its own; to mount one takes root.
TEST_F(TelemetryFaults, AFullDiskCostsRecordsAndNothingElse) {
  const std::string disk = project() / "disk";
  std::filesystem::create_directories(disk);
  if (geteuid() != 0 || mount("isthmus-test", disk.c_str(), "tmpfs", 0, "size=128k") != 0) {
    GTEST_SKIP() << "needs root and the right to mount a small tmpfs";
  }
  const ProgramResult result = Train("full", "checkpoint.save_final=false folder=" + disk + "/run");
  EXPECT_EQ(result.exit_status, 0) << result.out;
  const auto found = Records(disk + "/run");
  umount2(disk.c_str(), MNT_DETACH);
  // There are whole lines up to where the disk was full; later ones may be there if they still fit. The rest is as
  // without the fault. The summary on the terminal says so.
  EXPECT_LT(found.size(), losses().size());
  ASSERT_GT(found.size(), 5u);
  int64_t before = -1;
  for (const auto& record : found) {
    const int64_t step = record["step"];
    EXPECT_GT(step, before);
    before = step;
    if (step == 0) continue;
    EXPECT_EQ(record["train/loss"], losses().at(static_cast<size_t>(step) - 1)) << step;
  }
  EXPECT_THAT(result.out, HasSubstr(absl::StrFormat("loss %.4f\n", losses().back())));
}

TEST_F(TelemetryFaults, AFolderThatIsRemovedIsNotMissed) {
  const int port = FreePorts();
  auto run = std::async(std::launch::async, [&] {
    return TrainWithAPause("removed", absl::StrCat("checkpoint.save_final=false telemetry.prometheus.port=", port));
  });
  EXPECT_THAT(AwaitHttp(port, "/metrics", "\nisthmus_train_loss ", kPatience), HasSubstr("isthmus_train_loss"));
  // Files that the run makes meanwhile are in the way of their folders.
  std::error_code busy;
  for (int tries = 0; tries < 500 && std::filesystem::exists(project() / "removed"); ++tries) {
    std::filesystem::remove_all(project() / "removed", busy);
  }
  const bool removed = !std::filesystem::exists(project() / "removed");
  GoOn("removed");
  ASSERT_TRUE(removed);
  const ProgramResult result = run.get();
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr(absl::StrFormat("loss %.4f\n", losses().back())));
}

// The clients send requests as fast as they can, texts that are no requests, and requests that they never finish.
class HostileClients {
 public:
  explicit HostileClients(int port) : port_(port) {
    threads_.emplace_back([this] { Flood(); });
    threads_.emplace_back([this] { Nonsense(); });
    threads_.emplace_back([this] { Slowloris(); });
  }
  ~HostileClients() { Stop(); }
  void Stop() {
    stopping_ = true;
    for (auto& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  // Waits until there were connections of each kind. How many there are within a run depends on the machine.
  void AwaitEachKind() const {
    while (floods_ == 0 || nonsenses_ == 0 || slow_ == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

 private:
  void Flood() {
    for (int i = 0; i < 10'000 && !stopping_; ++i) {
      HttpGet(port_, "/metrics");
      ++floods_;
    }
  }
  void Nonsense() {
    const std::string junk[] = {std::string(100'000, 'A'),
                                "GET /metrics HTTP/1.1\r\nX: " + std::string(100'000, 'b') + "\r\n\r\n",
                                "GET /../../../etc/passwd HTTP/1.1\r\n\r\n",
                                "POST /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                                "POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                                std::string("\x16\x03\x01\x00\xff\x00\x00", 7),
                                "GET %00%s%n HTTP/9.9\r\n\r\n",
                                "\r\n\r\n\r\n"};
    while (!stopping_) {
      for (const std::string& bytes : junk) {
        const Socket socket = Socket::Connect(port_);
        if (socket.valid()) socket.Send(bytes);  // and gone without reading the answer
        ++nonsenses_;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  void Slowloris() {
    std::vector<Socket> sockets;
    for (int i = 0; i < 50 && !stopping_; ++i) {
      sockets.push_back(Socket::Connect(port_));
      sockets.back().Send("GET /metrics HTTP/1.1\r\nX-Slow: ");
      ++slow_;
    }
    while (!stopping_) {
      for (const Socket& socket : sockets) socket.Send("z");
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }

  int port_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> floods_ = 0, nonsenses_ = 0, slow_ = 0;
  std::vector<std::thread> threads_;
};

TEST_F(TelemetryFaults, HostileClientsChangeNoBit) {
  const int port = FreePorts();
  auto run = std::async(std::launch::async,
                        [&] { return TrainWithAPause("hostile", absl::StrCat("telemetry.prometheus.port=", port)); });
  EXPECT_THAT(AwaitHttp(port, "/metrics", "\nisthmus_steps_total ", kPatience), HasSubstr("isthmus_steps_total"));
  HostileClients clients(port);
  clients.AwaitEachKind();
  GoOn("hostile");
  const ProgramResult result = run.get();
  clients.Stop();
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(Losses(project() / "hostile"), losses());
}

}  // namespace
}  // namespace isthmus::testing
