// The table that puts heads side by side says what the runs' own metrics.jsonl says. The expected figures are computed
// here from the records as they stand in the file.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Texts of a table's row by the texts of its header.
using Row = std::map<std::string, std::string>;

std::string Between(const std::string& text, const std::string& begin, const std::string& end, size_t from = 0) {
  const size_t start = text.find(begin, from);
  if (start == std::string::npos) return "";
  const size_t stop = text.find(end, start);
  return text.substr(start + begin.size(), stop - start - begin.size());
}

// Returns the contents of all elements of that name, without markup.
std::vector<std::string> ElementTexts(const std::string& html, const std::string& name) {
  std::vector<std::string> texts;
  for (size_t at = html.find("<" + name); at != std::string::npos; at = html.find("<" + name, at + 1)) {
    const std::string content = Between(html, ">", "</" + name + ">", at);
    std::string text;
    bool markup = false;
    for (const char c : absl::StrReplaceAll(content, {{"\u00AD", ""}})) {
      if (!markup && c != '<') text += c;
      markup = c == '<' || (markup && c != '>');
    }
    texts.push_back(text);
  }
  return texts;
}

std::map<std::string, Row> SideBySide(const std::string& page) {
  const std::string table = Between(page, "<h2>Heads side by side</h2>", "</table>");
  const std::vector<std::string> header = ElementTexts(Between(table, "<thead>", "</thead>"), "th");
  std::map<std::string, Row> rows;
  for (const auto line : absl::StrSplit(Between(table, "<tbody>", "</tbody>"), "</tr>")) {
    const std::string row(line);
    const std::vector<std::string> names = ElementTexts(row, "th"), cells = ElementTexts(row, "td");
    if (names.empty()) continue;
    EXPECT_EQ(cells.size() + 1, header.size());
    for (size_t i = 0; i < std::min(cells.size(), header.size() - 1); ++i) rows[names[0]][header[i + 1]] = cells[i];
  }
  return rows;
}

// "97.92 %" is 0.9792, "9.600 k" 9600.
double NumberIn(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) return std::nan("");
  return std::string(end) == " %" ? number / 100 : std::string(end) == " k" ? 1000 * number : number;
}

double MeanOfEnd(const std::vector<double>& values, size_t count) {
  double sum = 0;
  for (size_t i = values.size() - count; i < values.size(); ++i) sum += values[i];
  return sum / static_cast<double>(count);
}

// The records of a run.
class Recorded {
 public:
  explicit Recorded(const std::string& folder) : records_(Records(folder)) {}

  double LastTenth(const std::string& key) const {
    std::vector<double> values;
    for (const auto& record : records_) {
      if (record.contains(key)) values.push_back(record[key]);
    }
    return values.empty() ? std::nan("") : MeanOfEnd(values, (values.size() + 9) / 10);
  }
  double Share(const std::string& part) const {
    std::map<std::string, std::vector<double>> decreases;
    for (const auto& record : records_) {
      if (!record.contains("updates")) continue;
      for (const auto& update : record["updates"]) decreases[update["part"]].push_back(update["first_order_decrease"]);
    }
    double sum = 0;
    for (const auto& [name, values] : decreases) sum += MeanOfEnd(values, (values.size() + 9) / 10);
    return MeanOfEnd(decreases.at(part), (decreases.at(part).size() + 9) / 10) / sum;
  }
  // The mean tokens and loss of up to ten records in a row, the last one at `end` from the back.
  std::pair<double, double> Window(size_t end) const {
    std::vector<double> tokens, losses;
    for (const auto& record : records_) {
      if (!record.contains("train/loss")) continue;
      tokens.push_back(record["tokens"]);
      losses.push_back(record["train/loss"]);
    }
    if (end >= tokens.size()) return {std::nan(""), std::nan("")};
    tokens.resize(tokens.size() - end);
    losses.resize(losses.size() - end);
    const size_t count = std::min<size_t>(10, tokens.size());
    return {MeanOfEnd(tokens, count), MeanOfEnd(losses, count)};
  }
  double LossAt(double tokens) const {
    for (size_t end = 0;; ++end) {
      const auto [after, loss_after] = Window(end);
      const auto [before, loss_before] = Window(end + 1);
      if (after == tokens || !(before > tokens)) {
        return after == tokens ? loss_after
                               : loss_before + (loss_after - loss_before) * (tokens - before) / (after - before);
      }
    }
  }
  double SecondsPerToken() const {
    std::vector<double> rates;
    for (const auto& record : records_) {
      if (record.contains("train/tokens_per_second")) rates.push_back(record["train/tokens_per_second"]);
    }
    std::sort(rates.begin(), rates.end());
    return 2 / (rates[(rates.size() - 1) / 2] + rates[rates.size() / 2]);
  }
  double Last(const std::string& key) const {
    double value = std::nan("");
    for (const auto& record : records_) {
      if (record.contains(key)) value = record[key];
    }
    return value;
  }

 private:
  std::vector<nlohmann::json> records_;
};

const std::map<std::string, std::string> kKeys = {{"norm lost", "head/lost_norm_ratio"},
                                                  {"isotropic", "head/isotropic_lost_norm_ratio"},
                                                  {"alignment gain", "head/alignment_gain"},
                                                  {"visible cosine", "head/visible_cosine"},
                                                  {"hidden-update cosine", "head/hidden_update_cosine"},
                                                  {"conditioning", "head/conditioning_cosine"}};
const std::map<std::string, std::string> kPartOfColumn = {
    {"decrease by head", "head"}, {"by blocks", "blocks"}, {"by embedding", "embedding"}};

// Returns the columns of a row that do not say what the run in `folder` recorded.
std::vector<std::string> WrongColumns(const Row& row, const std::string& folder, double common_tokens,
                                      double seconds_of_first) {
  const Recorded run(folder);
  std::map<std::string, double> expected = {{"training loss, end", run.Window(0).second},
                                            {"validation loss", run.Last("validation/loss")}};
  for (const auto& [column, key] : kKeys) expected[column] = run.LastTenth(key);
  for (const auto& [column, part] : kPartOfColumn) expected[column] = run.Share(part);
  std::vector<std::string> wrong;
  for (const auto& [column, text] : row) {
    const double found = NumberIn(text);
    if (column.rfind("training loss, ", 0) == 0 && column != "training loss, end") {
      expected[column] = run.LossAt(common_tokens);
    }
    if (column == "time per token") {
      // Written with two decimals.
      if (!(std::abs(found - run.SecondsPerToken() / seconds_of_first) <= 0.0051)) wrong.push_back(column);
    } else if (column != "head" && column != "parameters") {
      // Written with four digits.
      const double value = expected.at(column);
      if (!(std::abs(found - value) <= 5.01e-4 * std::abs(value))) wrong.push_back(column);
    }
  }
  return wrong;
}

// Three runs with other heads, of which the second is longer.
class ReportHeads : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    project_ = new TinyProject;
    Train("full", "--set model.head.backward.kind=preconditioned --set model.head.weight_gradient.kind=visible");
    Train("low", "--set model.head.rank=8 --set schedule.steps=30");
    Train("tied",
          "--set model.tied_embeddings=true --set \"optimizer.groups+=name: \\\"rows\\\" parameters: "
          "\\\"embedding*\\\" learning_rate_factor: 0.5\"");
  }
  static void TearDownTestSuite() { delete project_; }
  static void Train(const std::string& name, const std::string& settings) {
    const ProgramResult trained = RunIsthmus(
        absl::StrCat("train --config ", project_->WriteConfig(name), " --set telemetry.interval=1 ", settings));
    ASSERT_EQ(trained.exit_status, 0) << trained.out;
  }
  static std::string Folder(const std::string& name) { return *project_ / name; }
  static std::string PageOf(const std::vector<std::string>& folders) {
    std::string arguments;
    for (const std::string& folder : folders) absl::StrAppend(&arguments, " ", folder);
    const std::string page = *project_ / "page.html";
    const ProgramResult result = RunIsthmus(absl::StrCat("report", arguments, " --out ", page));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    return ReadText(page);
  }
  static std::string PageOfAll() { return PageOf({Folder("full"), Folder("low"), Folder("tied")}); }
  static TinyProject* project_;
};
TinyProject* ReportHeads::project_ = nullptr;

TEST_F(ReportHeads, TableSaysWhatTheRecordsSay) {
  const auto rows = SideBySide(PageOfAll());
  ASSERT_EQ(rows.size(), 3u);
  const double common = Recorded(Folder("full")).Window(0).first;
  const double first = Recorded(Folder("full")).SecondsPerToken();
  for (const auto& [name, row] : rows) {
    // All columns are there: 6 of the head, 3 shares, 3 losses, title, parameters and time.
    EXPECT_EQ(row.size(), 15u) << name;
    EXPECT_THAT(WrongColumns(row, Folder(name), common, first), IsEmpty()) << name;
  }
  EXPECT_EQ(rows.at("full").at("head"), "head at full width, backward preconditioned, weight gradient visible");
  EXPECT_EQ(rows.at("low").at("head"), "head of rank 8");
  EXPECT_EQ(rows.at("tied").at("head"), "tied head");
  EXPECT_EQ(rows.at("full").at("parameters"), "9.600 k");  // 300 · 32
  EXPECT_EQ(rows.at("low").at("parameters"), "2.656 k");   // 300 · 8 + 8 · 32
  EXPECT_EQ(rows.at("tied").at("parameters"), "0");
  EXPECT_EQ(rows.at("full").at("time per token"), "1.00×");
  EXPECT_EQ(rows.at("tied").at("decrease by head"), "0 %");
}

// The comparison notices a figure that is off by a twentieth: the page is then of other records than those it is held
// against.
TEST_F(ReportHeads, AWrongFigureIsNoticed) {
  const auto rows = SideBySide(PageOfAll());
  const double common = Recorded(Folder("full")).Window(0).first, first = Recorded(Folder("full")).SecondsPerToken();
  const std::string changed = *project_ / "changed";
  std::filesystem::create_directories(changed);
  const auto wrong_after = [&](const std::function<void(nlohmann::json&)>& change) {
    std::string lines;
    for (nlohmann::json& record : Records(Folder("low"))) {
      change(record);
      absl::StrAppend(&lines, record.dump(), "\n");
    }
    WriteText(changed + "/metrics.jsonl", lines);
    return WrongColumns(rows.at("low"), changed, common, first);
  };
  const auto scale = [](const std::string& key) {
    return [key](nlohmann::json& record) {
      if (record.contains(key)) record[key] = 1.05 * record[key].get<double>();
    };
  };
  EXPECT_THAT(wrong_after([](nlohmann::json&) {}), IsEmpty());
  for (const auto& [column, key] : kKeys) EXPECT_THAT(wrong_after(scale(key)), ElementsAre(column));
  EXPECT_THAT(wrong_after(scale("validation/loss")), ElementsAre("validation loss"));
  EXPECT_EQ(wrong_after(scale("train/loss")).size(), 2u);
  EXPECT_THAT(wrong_after(scale("train/tokens_per_second")), ElementsAre("time per token"));
  EXPECT_THAT(wrong_after([](nlohmann::json& record) {
                if (!record.contains("updates")) return;
                for (auto& update : record["updates"]) {
                  if (update["part"] == "head") {
                    update["first_order_decrease"] = 1.05 * update["first_order_decrease"].get<double>();
                  }
                }
              }),
              ElementsAre("by blocks", "by embedding", "decrease by head"));
}

TEST_F(ReportHeads, PlotsShowCosinesSharesAndGaps) {
  const std::string page = PageOfAll();
  for (const char* shown :
       {"<h2>What a step changes</h2>", "<figcaption>Cosine with the logit gradient</figcaption>",
        "<bdi>low, hidden update</bdi>", "<figcaption>Conditioning</figcaption>",
        "<figcaption>Gradient energy in the hidden states</figcaption>",
        "<figcaption>Cosine of the whole step with the logit gradient</figcaption>",
        "<figcaption>Decrease of the loss by the head</figcaption>",
        "<figcaption>Decrease of the loss by the blocks</figcaption>",
        "<figcaption>Decrease of the loss by the embedding</figcaption>",
        "<figcaption>Decrease of the loss by optimizer group, tied</figcaption>",
        "<figcaption>updates/head/first_order_decrease</figcaption>",
        // The help of the field stands below its plot.
        "<p class=\"note\">Learning rate of the step for the group.</p>", "<h2>Gaps between a token’s occurrences</h2>",
        "<figcaption>Tokens by steps, full, tied</figcaption>", "<figcaption>Tokens by steps, low</figcaption>",
        ">κ = 1</text>"}) {
    EXPECT_THAT(page, HasSubstr(shown));
  }
  // The last row of the plot's table is the last record's.
  const auto records = Records(Folder("low"));
  const double a = records.back()["head/hidden_gradient_norm"], b = records.back()["head/gradient_norm"];
  const std::string energy = Between(page, "Gradient energy in the hidden states</figcaption>", "</tbody>");
  const std::string legend = Between(energy, "<bdi>low</bdi> <b>", "</b>");
  EXPECT_NEAR(NumberIn(legend) / (a * a / (a * a + b * b)), 1, 5.01e-4) << legend;
  const std::string gaps = Between(page, "<h2>Gaps", "</table>");
  const std::string row = Between(gaps, "<bdi>low</bdi>", "</tr>");
  const std::vector<std::string> cells = ElementTexts(row, "td");
  ASSERT_EQ(cells.size(), 5u);
  const char* keys[] = {"tokens", "median_steps", "ninth_decile_steps", "median_kappa", "ninth_decile_kappa"};
  for (size_t i = 0; i < cells.size(); ++i) {
    const double recorded = records.back()[absl::StrCat("token_gaps/", keys[i])];
    EXPECT_NEAR(NumberIn(cells[i]) / recorded, 1, 5.01e-4) << keys[i] << " " << cells[i];
  }
}

TEST_F(ReportHeads, ARunAloneHasItsOwnTimesAndParts) {
  const std::string page = PageOf({Folder("tied")});
  const auto rows = SideBySide(page);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_THAT(rows.at("tied").at("time per token"), Not(HasSubstr("×")));
  // It ends where it ends: there is no other place to compare at.
  EXPECT_EQ(rows.at("tied").size(), 14u);
  EXPECT_THAT(page, HasSubstr("<figcaption>Decrease of the loss by part</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<figcaption>Decrease of the loss by optimizer group</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<figcaption>Tokens by steps, tied</figcaption>"));
}

TEST_F(ReportHeads, ManyRunsHaveAPlotForEachCosine) {
  std::vector<std::string> folders = {Folder("full"), Folder("low"), Folder("tied")};
  for (int i = 0; i < 4; ++i) {
    folders.push_back(absl::StrCat(*project_ / "copy-", i));
    std::filesystem::create_directories(folders.back());
    std::filesystem::copy(Folder("full") + "/metrics.jsonl", folders.back() + "/metrics.jsonl");
  }
  const std::string page = PageOf(folders);
  EXPECT_EQ(SideBySide(page).size(), 7u);
  EXPECT_THAT(page, HasSubstr("<figcaption>Visible cosine</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<figcaption>Hidden-update cosine</figcaption>"));
  EXPECT_THAT(page, Not(HasSubstr("<figcaption>Cosine with the logit gradient</figcaption>")));
  EXPECT_THAT(page, HasSubstr("<figcaption>Tokens by steps, full, tied, copy-0 and 3 more</figcaption>"));
}

// A run without the figures stands beside one that has them.
TEST_F(ReportHeads, FiguresThatARunDoesNotHaveAreLeftOut) {
  const std::string old = *project_ / "old";
  std::filesystem::create_directories(old);
  std::string lines;
  for (int step = 1; step <= 30; ++step) {
    absl::StrAppend(&lines, "{\"step\":", step, ",\"tokens\":", 256 * step, ",\"train/loss\":", 6 - 0.1 * step,
                    ",\"head/<b>\":1,\"updates\":[]}\n");
  }
  WriteText(old + "/metrics.jsonl", lines);
  const std::string alone = PageOf({old});
  for (const char* section : {"Heads side by side", "What a step changes", "Gaps between"}) {
    EXPECT_THAT(alone, Not(HasSubstr(section)));
  }
  const std::string both = PageOf({old, Folder("low")});
  const Row row = SideBySide(both).at("old");
  for (const char* column : {"head", "parameters", "norm lost", "conditioning", "decrease by head", "time per token"}) {
    EXPECT_EQ(row.at(column), "–") << column;
  }
  EXPECT_NE(row.at("training loss, end"), "–");
  // Nothing can be told of times against a run that has none.
  EXPECT_EQ(SideBySide(both).at("low").at("time per token"), "–");
}

}  // namespace
}  // namespace isthmus::testing
