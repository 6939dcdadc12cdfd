// The readers of a run's metrics are TensorBoard, Prometheus, and the dashboard and alerts of tools/dashboards.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime/telemetry/tensorboard_sink.h"
#include "tests/support/http.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Trains with a pause for scraping: at step 300 the run waits until a file `folder`.scraped exists. A rank may wait for
// another that long, however slow the machine is.
ProgramResult RunUntilScraped(const std::string& folder, const std::string& arguments) {
  return RunWithFaults(absl::StrCat("step.begin@0#300=await:", folder, ".scraped"),
                       absl::StrCat(arguments, " --set schedule.steps=400 --set mesh.collective_timeout_seconds=3600"),
                       2);
}
void SayThatItWasScraped(const std::string& folder) { WriteText(folder + ".scraped", ""); }

std::string DashboardFolder() { return SourceFolder() + "/tools/dashboards/"; }

// Returns where launch/install puts Prometheus's programs; empty when they are nowhere.
std::string PrometheusProgram(const std::string& name) {
  const std::string unpacked = absl::StrCat(SourceFolder(), "/build/prometheus/usr/bin/", name);
  if (std::filesystem::exists(unpacked)) return unpacked;
  return RunShell("command -v " + name).exit_status == 0 ? name : "";
}

// A run of two ranks that share a head, scraped while it trains. It has both ranks' metrics, and the files that the run
// left.
class Dashboards : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    project_ = new TinyProject;
    port_ = FreePorts(2);
    const std::string arguments =
        absl::StrCat("train --config ", project_->WriteConfig("run", "mesh { tensor: 2 }"),
                     " --set telemetry.log_interval=5 --set telemetry.validation_interval=50 --set "
                     "telemetry.prometheus.every_rank=true",
                     " --set telemetry.prometheus.port=", port_,
                     " --set \"optimizer.groups+=name: \\\"rows\\\" parameters: \\\"head.*\\\" beta2: 0.9\"");
    auto run = std::async(std::launch::async, [&] { return RunUntilScraped(folder(), arguments); });
    live_ = new std::string(AwaitHttp(port_, "/metrics", "\nisthmus_head_lost_energy_ratio ", kPatience));
    other_ = new std::string(AwaitHttp(port_ + 1, "/metrics", "\nisthmus_rank_phase_seconds{", kPatience));
    SayThatItWasScraped(folder());
    result_ = new ProgramResult(run.get());
    ASSERT_EQ(result_->exit_status, 0) << result_->out;
    ASSERT_THAT(*live_, HasSubstr("\nisthmus_head_lost_energy_ratio "));
    ASSERT_THAT(*other_, HasSubstr("\nisthmus_rank_phase_seconds{"));
  }
  static void TearDownTestSuite() {
    delete project_;
    delete live_;
    delete other_;
    delete result_;
  }
  static TinyProject& project() { return *project_; }
  static const std::string& live() { return *live_; }
  static const std::string& other() { return *other_; }
  static std::string folder() { return *project_ / "run"; }

 private:
  static TinyProject* project_;
  static int port_;
  static std::string *live_, *other_;
  static ProgramResult* result_;
};
TinyProject* Dashboards::project_ = nullptr;
int Dashboards::port_ = 0;
std::string *Dashboards::live_ = nullptr, *Dashboards::other_ = nullptr;
ProgramResult* Dashboards::result_ = nullptr;

nlohmann::json ReadTensorboard(const std::string& folder, std::string& skipped) {
  const ProgramResult read = RunShell(SourceFolder() + "/tests/support/read_tensorboard " + folder + " 2>/dev/null");
  if (read.exit_status == 77) skipped = read.out;
  EXPECT_TRUE(read.exit_status == 0 || read.exit_status == 77) << read.out;
  return nlohmann::json::parse(read.out, nullptr, false);
}

// Lists of a record whose elements have figures of their own, and the field that tells them apart.
const std::map<std::string, std::string> kLabelOfList = {{"head/shards", "tp_rank"}, {"head/buckets", "bucket"},
                                                         {"layers", "layer"},        {"time/phases", "phase"},
                                                         {"updates", "part"},        {"groups", "group"}};

TEST_F(Dashboards, TensorboardReadsEveryScalarAndHistogram) {
  std::string skipped;
  const auto read = ReadTensorboard(folder(), skipped);
  if (!skipped.empty()) GTEST_SKIP() << skipped;
  ASSERT_TRUE(read.is_object());
  // An event holds a float; a number that is not finite is null on both sides.
  const auto held = [](const nlohmann::json& value) {
    return value.is_null() ? value : nlohmann::json(value.get<float>());
  };
  std::map<std::string, std::vector<std::pair<int64_t, nlohmann::json>>> scalars;
  std::map<std::string, size_t> histograms;
  for (const auto& record : Records(folder())) {
    for (const auto& [key, value] : record.items()) {
      if ((value.is_number() || value.is_null()) && absl::StrContains(key, '/') && !absl::StartsWith(key, "rank/")) {
        scalars[key].emplace_back(record["step"], held(value));
      } else if (value.is_object()) {
        const auto& event = read["histograms"][key].at(histograms[key]++);
        EXPECT_EQ(event[0], record["step"]);
        EXPECT_EQ(event[2].get<double>(), value["sum"].get<double>());
        EXPECT_EQ(event[4], nlohmann::json(value["counts"].get<std::vector<double>>()));
        EXPECT_EQ(event[3].size(), value["bounds"].size() + 1);
      } else if (kLabelOfList.count(key) > 0) {
        for (const auto& element : value) {
          const auto& label = element[kLabelOfList.at(key)];
          for (const auto& [field, number] : element.items()) {
            if (field == kLabelOfList.at(key)) continue;
            const std::string place = label.is_string() ? label.get<std::string>() : label.dump();
            scalars[absl::StrCat(key, "/", place, "/", field)].emplace_back(record["step"], held(number));
          }
        }
      }
    }
  }
  ASSERT_EQ(histograms.size(), 4u);
  for (const auto& [key, count] : histograms) {
    EXPECT_GT(count, 2u) << key;
    EXPECT_EQ(read["histograms"][key].size(), count) << key;
  }
  ASSERT_GT(scalars.size(), 90u);
  for (const auto& [tag, values] : scalars) {
    ASSERT_TRUE(read["scalars"].contains(tag)) << tag;
    ASSERT_EQ(read["scalars"][tag].size(), values.size()) << tag;
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(read["scalars"][tag][i][0], values[i].first) << tag;
      EXPECT_EQ(held(read["scalars"][tag][i][1]), values[i].second) << tag;
    }
  }
}

TEST_F(Dashboards, ACurveThatIsResumedDoesNotOverlap) {
  const TemporaryFolder resumed;
  const auto write = [&](int64_t from, int64_t to, double loss) {
    auto sink = TensorboardSink::Create(resumed.path(), from);
    ASSERT_TRUE(sink.ok()) << sink.status();
    for (int64_t step = from; step <= to; ++step) {
      proto::TelemetryRecord record;
      record.set_step(step);
      record.mutable_train()->set_loss(loss);
      ASSERT_TRUE((*sink)->Write(record).ok());
    }
  };
  write(1, 8, 2);
  write(6, 9, 1);  // resumed from a checkpoint of step 5
  std::string skipped;
  const auto read = ReadTensorboard(resumed.path(), skipped);
  if (!skipped.empty()) GTEST_SKIP() << skipped;
  const auto expected = nlohmann::json::parse("[[1,2],[2,2],[3,2],[4,2],[5,2],[6,1],[7,1],[8,1],[9,1]]");
  EXPECT_EQ(read["scalars"]["train/loss"], expected);
}

TEST_F(Dashboards, MetricsPassPromtool) {
  const std::string promtool = PrometheusProgram("promtool");
  if (promtool.empty()) GTEST_SKIP() << "needs promtool (launch/install tests)";
  WriteText(project() / "live.prom", live());
  WriteText(project() / "other.prom", other());
  for (const std::string& file : {project() / "live.prom", project() / "other.prom", folder() + "/metrics.prom"}) {
    const ProgramResult checked = RunShell(absl::StrCat(promtool, " check metrics <", file));
    EXPECT_EQ(checked.exit_status, 0) << file << "\n" << checked.out;
    EXPECT_THAT(checked.out, IsEmpty()) << file;
  }
  // It would notice a metric without help.
  EXPECT_NE(RunShell(absl::StrCat("echo isthmus_x 1 | ", promtool, " check metrics")).exit_status, 0);
}

TEST_F(Dashboards, AlertRulesHoldTheirTests) {
  const std::string promtool = PrometheusProgram("promtool");
  if (promtool.empty()) GTEST_SKIP() << "needs promtool (launch/install tests)";
  for (const char* arguments :
       {"check rules alerts.yml", "test rules alerts_test.yml", "check config --syntax-only prometheus.yml"}) {
    const ProgramResult checked = RunShell(absl::StrCat("cd ", DashboardFolder(), " && ", promtool, " ", arguments));
    EXPECT_EQ(checked.exit_status, 0) << checked.out;
  }
}

// The names of metrics in a text.
std::set<std::string> MetricNames(const std::string& text) {
  static const std::regex kName("isthmus_[a-z0-9_]+");
  std::set<std::string> names;
  for (std::sregex_iterator it(text.begin(), text.end(), kName), end; it != end; ++it) names.insert(it->str());
  return names;
}

TEST_F(Dashboards, ShowAndWatchOnlyMetricsThatAreExported) {
  std::set<std::string> exported;
  const std::string left = ReadText(folder() + "/metrics.prom");
  for (const std::string& text : {live(), other(), left}) {
    for (const auto line : absl::StrSplit(text, '\n')) {
      if (absl::StartsWith(line, "isthmus_")) exported.insert(std::string(line.substr(0, line.find_first_of(" {"))));
    }
  }
  EXPECT_TRUE(exported.count("isthmus_time_step_seconds_bucket") == 1);
  const auto missing = [&](const std::string& text) {
    std::set<std::string> names;
    for (const std::string& name : MetricNames(text)) {
      if (exported.count(name) == 0) names.insert(name);
    }
    return names;
  };
  const std::string dashboard = ReadText(absl::StrCat(DashboardFolder(), "grafana/dashboards/isthmus.json"));
  const std::string alerts = ReadText(absl::StrCat(DashboardFolder(), "alerts.yml"));
  EXPECT_GT(MetricNames(dashboard).size(), 30u);
  EXPECT_GT(MetricNames(alerts).size(), 8u);
  EXPECT_THAT(missing(dashboard), IsEmpty());
  EXPECT_THAT(missing(alerts), IsEmpty());
  EXPECT_THAT(missing("rate(isthmus_no_such_total[5m])"), ::testing::ElementsAre("isthmus_no_such_total"));
  // Grafana takes the dashboard, too.
  const auto json = nlohmann::json::parse(dashboard);
  EXPECT_EQ(json["uid"], "isthmus");
  for (const auto& panel : json["panels"]) EXPECT_FALSE(panel["targets"].empty()) << panel["title"];
}

TEST_F(Dashboards, PanelsTakeTheChosenSourceAndTellJobsApart) {
  const auto json = nlohmann::json::parse(ReadText(absl::StrCat(DashboardFolder(), "grafana/dashboards/isthmus.json")));
  const auto& variables = json["templating"]["list"];
  EXPECT_EQ(variables[0]["name"], "datasource");
  EXPECT_EQ(variables[0]["type"], "datasource");
  EXPECT_EQ(variables[1]["datasource"]["uid"], "${datasource}");
  for (const auto& panel : json["panels"]) {
    EXPECT_EQ(panel["datasource"]["uid"], "${datasource}") << panel["title"];
    for (const auto& target : panel["targets"]) {
      EXPECT_EQ(target["datasource"]["uid"], "${datasource}") << panel["title"];
      EXPECT_THAT(target["legendFormat"].get<std::string>(), HasSubstr("{{instance}}")) << panel["title"];
    }
  }
}

// Returns a series, or what it must be, with its value at every time.
nlohmann::json DecreaseOf(const std::string& label, const std::string& instance, double value, bool metric) {
  const std::string labels = absl::StrCat("{", label, ", instance=\"", instance, "\"}");
  if (!metric) return {{"labels", labels}, {"value", value}};
  const std::string name = absl::StartsWith(label, "part") ? "update" : "group";
  return {{"series", absl::StrCat("isthmus_", name, "_first_order_decrease", labels)}, {"values", absl::StrCat(value)}};
}

TEST_F(Dashboards, PanelsAskWhatPrometheusUnderstandsAndSharesAreOfTheWhole) {
  const std::string promtool = PrometheusProgram("promtool");
  if (promtool.empty()) GTEST_SKIP() << "needs promtool (launch/install tests)";
  const auto json = nlohmann::json::parse(ReadText(absl::StrCat(DashboardFolder(), "grafana/dashboards/isthmus.json")));
  // Two jobs, whose parts have 1 + 2 + 5 and 4 - 1 + 1 nats.
  const std::vector<std::pair<std::string, std::vector<double>>> jobs = {{"a", {1, 2, 5, 3}}, {"b", {4, -1, 1, 0}}};
  const std::vector<std::string> labels = {"part=\"head\"", "part=\"blocks\"", "part=\"embedding\"", "group=\"rows\""};
  const std::vector<double> wholes = {8, 4};
  nlohmann::json series = nlohmann::json::array(), parts = series, groups = series, questions = series;
  for (size_t job = 0; job < jobs.size(); ++job) {
    for (size_t i = 0; i < labels.size(); ++i) {
      const double value = jobs[job].second[i];
      series.push_back(DecreaseOf(labels[i], jobs[job].first, value, true));
      (i < 3 ? parts : groups).push_back(DecreaseOf(labels[i], jobs[job].first, value / wholes[job], false));
    }
  }
  int compared = 0;
  for (const auto& panel : json["panels"]) {
    for (const auto& target : panel["targets"]) {
      std::string expression = target["expr"];
      for (size_t at; (at = expression.find("$instance")) != std::string::npos;) expression.replace(at, 9, ".+");
      nlohmann::json answer = nlohmann::json::array();
      if (absl::StartsWith(expression, "isthmus_update_first_order_decrease")) answer = parts;
      if (absl::StartsWith(expression, "isthmus_group_first_order_decrease")) answer = groups;
      compared += answer.empty() ? 0 : 1;
      questions.push_back({{"expr", expression}, {"eval_time", "1m"}, {"exp_samples", answer}});
    }
  }
  EXPECT_EQ(compared, 2);
  const auto ask = [&] {
    // JSON is YAML, too.
    const nlohmann::json test = {{"interval", "1m"}, {"input_series", series}, {"promql_expr_test", questions}};
    WriteText(project() / "panels.yml",
              nlohmann::json{{"rule_files", nlohmann::json::array()}, {"tests", {test}}}.dump());
    return RunShell(absl::StrCat(promtool, " test rules ", project() / "panels.yml"));
  };
  const ProgramResult asked = ask();
  EXPECT_EQ(asked.exit_status, 0) << asked.out;
  // It would notice another value, and what it doesn't understand.
  series[0]["values"] = "1.1";
  EXPECT_NE(ask().exit_status, 0);
  series[0]["values"] = "1";
  questions.push_back({{"expr", "sum without ("}, {"eval_time", "1m"}, {"exp_samples", nlohmann::json::array()}});
  EXPECT_NE(ask().exit_status, 0);
}

TEST_F(Dashboards, EveryRankShowsItsOwnFigures) {
  EXPECT_THAT(live(),
              HasSubstr("isthmus_rank_phase_seconds{rank=\"0\",tp_rank=\"0\",dp_rank=\"0\",phase=\"forward\"} "));
  EXPECT_THAT(other(),
              HasSubstr("isthmus_rank_phase_seconds{rank=\"1\",tp_rank=\"1\",dp_rank=\"0\",phase=\"forward\"} "));
  EXPECT_THAT(other(), ::testing::Not(HasSubstr("isthmus_train_loss ")));
}

TEST_F(Dashboards, PhasesTellMinimumMaximumAndTheSlowestRank) {
  const auto records = Records(folder());
  for (size_t i = 1; i < records.size(); ++i) {
    const auto& phases = records[i]["time/phases"];
    ASSERT_EQ(phases.size(), 7u);
    for (const auto& phase : phases) {
      const std::string key = absl::StrCat("time/", phase["phase"].get<std::string>(), "_seconds");
      EXPECT_EQ(phase["maximum_seconds"], records[i][key]) << key;
      EXPECT_LE(phase["minimum_seconds"], phase["maximum_seconds"]);
      EXPECT_THAT(phase["slowest_rank"].get<int>(), ::testing::AnyOf(0, 1));
    }
  }
  EXPECT_EQ(records.back()["checkpoint/step"], records.back()["step"]);
  EXPECT_GT(records.back()["checkpoint/timestamp_seconds"], 1.7e9);
}

// A real Prometheus, as tools/dashboards/up configures it but for the interval.
TEST_F(Dashboards, PrometheusReadsWhatTheRunWrote) {
  const std::string prometheus = PrometheusProgram("prometheus");
  if (prometheus.empty()) GTEST_SKIP() << "needs prometheus (launch/install tests)";
  const int web = FreePorts(2), port = web + 1;
  const std::string work = project() / "prometheus", target = absl::StrCat("127.0.0.1:", port);
  std::filesystem::create_directories(work);
  std::filesystem::copy(absl::StrCat(DashboardFolder(), "alerts.yml"), work + "/alerts.yml");
  std::string config = ReadText(absl::StrCat(DashboardFolder(), "prometheus.yml"));
  config.replace(config.find("scrape_interval: 5s"), 19, "scrape_interval: 200ms");
  WriteText(work + "/prometheus.yml", config);
  WriteText(work + "/targets.json", absl::StrCat("[{\"targets\": [\"", target, "\"]}]"));
  auto server = std::async(std::launch::async, [&] {
    return RunShell(absl::StrCat("exec ", prometheus, " --config.file=", work, "/prometheus.yml --storage.tsdb.path=",
                                 work, "/data --web.enable-lifecycle --web.listen-address=127.0.0.1:", web));
  });
  const auto query = [&](const std::string& expression) {
    return nlohmann::json::parse(HttpGet(web, "/api/v1/query?query=" + expression), nullptr, false);
  };
  // It looks for targets every five seconds.
  EXPECT_THAT(AwaitHttp(web, "/api/v1/targets", target, kPatience), HasSubstr(target));
  auto run = std::async(std::launch::async, [&] {
    return RunUntilScraped(
        project() / "scraped",
        absl::StrCat("train --config ", project().WriteConfig("scraped"),
                     " --set telemetry.validation_interval=0 --set telemetry.prometheus.port=", port));
  });
  AwaitHttp(web, "/api/v1/query?query=count_over_time(isthmus_train_loss%5B1h%5D)%3E5", "\"value\"", kPatience);
  SayThatItWasScraped(project() / "scraped");
  const ProgramResult result = run.get();
  EXPECT_EQ(result.exit_status, 0) << result.out;
  const auto steps = query("isthmus_steps_total%5B1h%5D"), losses = query("isthmus_train_loss%5B1h%5D");
  const auto rules = nlohmann::json::parse(HttpGet(web, "/api/v1/rules"), nullptr, false);
  HttpGet(web, "/-/quit", "POST");
  EXPECT_EQ(server.get().exit_status, 0);

  ASSERT_EQ(steps["data"]["result"].size(), 1u) << steps;
  ASSERT_EQ(losses["data"]["result"].size(), 1u) << losses;
  EXPECT_EQ(rules["data"]["groups"][0]["rules"].size(), 10u);
  std::map<double, int64_t> step_at;  // by the time of the scrape
  for (const auto& sample : steps["data"]["result"][0]["values"]) {
    step_at[sample[0]] = std::stoll(sample[1].get<std::string>());
  }
  const auto written = Losses(project() / "scraped");
  int compared = 0;
  for (const auto& sample : losses["data"]["result"][0]["values"]) {
    const int64_t step = step_at.at(sample[0].get<double>());
    ASSERT_GE(step, 1);
    // Sixteen digits are what the text format gives.
    EXPECT_NEAR(std::stod(sample[1].get<std::string>()) / written[static_cast<size_t>(step) - 1], 1, 1e-15);
    ++compared;
  }
  EXPECT_GE(compared, 2);
}

}  // namespace
}  // namespace isthmus::testing
