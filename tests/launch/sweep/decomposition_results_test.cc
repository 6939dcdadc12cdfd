// Decompositions whose figures are written by hand: what is read of them, and what a sweep says of them.
#include "launch/sweep/decomposition_results.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/sweep/decomposition_section.h"
#include "launch/sweep/page.h"
#include "launch/sweep/results_json.h"
#include "tests/support/markup.h"
#include "tests/support/program.h"

namespace isthmus::sweep {
namespace {

using ::isthmus::testing::TemporaryFolder;
using ::isthmus::testing::WriteText;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A head of rank 4 of 100 rows: an isotropic cosine of 0.2.
nlohmann::json FiguresWithCosine(double cosine, double half_width, const std::vector<double>& random_heads) {
  const auto interval = [&](double value, double half) {
    return nlohmann::json{{"value", value}, {"low", value - half}, {"high", value + half}};
  };
  const auto all = [&] {
    return nlohmann::json{{"visible_cosine", interval(cosine, half_width)},
                          {"alignment_gain", interval(cosine / 0.2, half_width / 0.2)},
                          {"lost_norm_ratio", interval(std::sqrt(1 - cosine * cosine), 0.01)},
                          {"lost_energy_ratio", interval(1 - cosine * cosine, 0.01)}};
  };
  nlohmann::json json = {{"tokens", 64}, {"vocabulary", 100}, {"width", 8}, {"loss", 3.5}, {"head_numerical_rank", 4}};
  json["bootstrap"] = all();
  json["bootstrap"].update({{"resamples", 50}, {"blocks", 4}, {"block_tokens", 16}});
  json["bootstrap"]["target_buckets"] = {{{"bucket", "top_10_percent"}, {"most_frequent_percent", 10}, {"tokens", 60}},
                                         {{"bucket", "rest"}, {"most_frequent_percent", 100}, {"tokens", 0}}};
  json["bootstrap"]["target_buckets"][0].update(all());
  json["controls"] = {{"random_head", {{"visible_cosines", random_heads}}},
                      {"random_hidden", {{"visible_cosines", {0.4, 0.4}}}}};
  return json;
}

class DecompositionResults : public ::testing::Test {
 protected:
  DecompositionResults() {
    config_.set_folder(folder_.path());
    config_.mutable_decomposition();
  }
  // Adds a run of one arm with these figures.
  void Add(const std::string& arm, uint64_t seed, const nlohmann::json& figures) {
    PlannedDecomposition one{
        .name = absl::StrCat("runs/", arm, "/seed-", seed, "/context-16"), .arm = arm, .seed = seed};
    const std::string folder = FolderOfDecomposition(config_, one);
    std::filesystem::create_directories(folder);
    WriteText(FiguresPath(folder), figures.dump());
    ended_[one.name] = RunResult{.loss = 3.5};
    planned_.push_back(std::move(one));
  }
  std::vector<DecompositionResult> Results() const { return DecompositionResultsOf(config_, planned_, ended_); }

  TemporaryFolder folder_;
  proto::SweepConfig config_;
  std::vector<PlannedDecomposition> planned_;
  RunResults ended_;
};

TEST_F(DecompositionResults, AreReadAsTheyWereWritten) {
  Add("full", 1, FiguresWithCosine(0.5, 0.02, {0.1, 0.3}));
  const auto results = Results();
  ASSERT_TRUE(results[0].figures.has_value()) << results[0].problem;
  const DecompositionFigures& figures = *results[0].figures;
  EXPECT_EQ(figures.rank, 4);
  EXPECT_EQ(figures.sequence_length, 16);
  EXPECT_EQ(figures.sequences, 4);
  EXPECT_NEAR(figures.isotropic_visible_cosine, 0.2, 1e-15);
  EXPECT_NEAR(figures.alignment_gain.value, 2.5, 1e-12);
  EXPECT_NEAR(figures.visible_cosine.interval.high, 0.52, 1e-12);
  // The squares of the gains are 0.25 and 2.25: their mean is 1.25, with 12.7 for Student's t and a standard error of 1.
  EXPECT_EQ(figures.random_head->draws, 2);
  EXPECT_NEAR(figures.random_head->gain.value, std::sqrt(1.25), 1e-12);
  EXPECT_EQ(figures.random_head->gain.interval.low, 0);
  EXPECT_NEAR(figures.random_head->gain.interval.high, std::sqrt(1.25 + 12.7062), 1e-4);
  EXPECT_NEAR(figures.random_hidden->gain.value, 2, 1e-12);
  ASSERT_EQ(figures.buckets.size(), 2u);
  EXPECT_NEAR(figures.buckets[0].alignment_gain.interval.low, 2.4, 1e-12);
  EXPECT_TRUE(std::isnan(figures.buckets[1].alignment_gain.value));
  EXPECT_FALSE(figures.buckets[1].alignment_gain.Excludes(1));
}

TEST_F(DecompositionResults, FilesThatLackAFigureAreNamedWithIt) {
  const auto problem = [&](const nlohmann::json& figures) {
    planned_.clear();
    Add("full", 1, figures);
    return Results()[0].problem;
  };
  const nlohmann::json whole = FiguresWithCosine(0.5, 0.02, {0.1, 0.3});
  EXPECT_EQ(problem(whole), "");
  for (const char* name : {"tokens", "vocabulary", "head_numerical_rank", "bootstrap", "loss"}) {
    nlohmann::json less = whole;
    less.erase(name);
    EXPECT_THAT(problem(less), HasSubstr(absl::StrCat("it lacks ", name)));
  }
  nlohmann::json less = whole;
  less["bootstrap"]["alignment_gain"].erase("low");
  EXPECT_THAT(problem(less), HasSubstr("it lacks low"));
  less = whole;
  less["bootstrap"]["visible_cosine"]["low"] = nullptr;
  EXPECT_EQ(problem(less), "") << "was not measured";
  for (const char* text : {"", "[", "[]", "7", "{\"bootstrap\": [1], \"controls\": 3}"}) {
    WriteText(FiguresPath(FolderOfDecomposition(config_, planned_[0])), text);
    EXPECT_THAT(Results()[0].problem, HasSubstr("is no result of a decomposition: it lacks ")) << text;
  }
  less = whole;
  less.erase("controls");
  EXPECT_EQ(problem(less), "");
  EXPECT_FALSE(Results()[0].figures->random_head.has_value());
}

TEST_F(DecompositionResults, OfSeveralSeedsHaveStudentsInterval) {
  Add("full", 1, FiguresWithCosine(0.5, 0.02, {0.2, 0.2}));
  Add("full", 2, FiguresWithCosine(0.6, 0.02, {0.2, 0.2}));
  Add("other", 1, FiguresWithCosine(0.3, 0.02, {0.2, 0.2}));
  const auto results = Results();
  const auto groups = GroupsOf(config_, results);
  ASSERT_EQ(groups.size(), 2u);
  const auto gain = [](const DecompositionFigures& figures) { return figures.alignment_gain; };
  const Measured both = OverSeeds(groups[0], gain, 0.95), lone = OverSeeds(groups[1], gain, 0.95);
  EXPECT_NEAR(both.value, 2.75, 1e-12);
  EXPECT_NEAR(both.interval.high - both.value, 12.7062 * 0.25, 1e-3);
  EXPECT_NEAR(lone.interval.high - lone.value, 0.1, 1e-12) << "its own interval";
}

TEST_F(DecompositionResults, AGainIsShownOnlyIfItsIntervalIsBeyondOneRandomHead) {
  const std::vector<double> draws = {0.199, 0.201};
  Add("full", 1, FiguresWithCosine(0.5, 0.02, draws));
  Add("full", 2, FiguresWithCosine(0.21, 0.02, draws));
  Add("less", 1, FiguresWithCosine(0.1, 0.02, draws));
  // This excludes 1, but one random head may have it: 1 ± 12.7 · 0.01414 · √1.5 has the root 1.105.
  Add("alike", 1, FiguresWithCosine(0.21, 0.005, draws));
  Add("beyond", 1, FiguresWithCosine(0.23, 0.005, draws));
  auto results = Results();
  EXPECT_NEAR(results[0].figures->random_head->one.high, std::sqrt(1.000025 + 12.7062 * 0.0141421 * std::sqrt(1.5)),
              1e-5);
  EXPECT_THAT(
      GainSentences(GroupsOf(config_, results)),
      ElementsAre(
          "full: 1 of 2 intervals are beyond heads in random position (1 above); gains are 1.05 to 2.5.",
          "less: 1 of 1 intervals are beyond heads in random position (1 below); gains are 0.5 to 0.5.",
          "alike: none of 1 intervals is beyond heads in random position; gains are 1.05 to 1.05.",
          "beyond: 1 of 1 intervals are beyond heads in random position (1 above); gains are 1.15 to 1.15.",
          "random hidden states: 5 of 5 intervals are beyond heads in random position (5 above); gains are 2 to 2.",
          "heads in random position, all draws of each: none of 5 intervals is beyond a gain of 1; gains are 1 to 1."));
  // Without draws there is only the expectation to compare with.
  for (DecompositionResult& result : results)
    result.figures->random_head = result.figures->random_hidden = std::nullopt;
  EXPECT_EQ(GainSentences(GroupsOf(config_, results))[2],
            "alike: 1 of 1 intervals are beyond a gain of 1 (1 above); gains are 1.05 to 1.05.");
}

TEST_F(DecompositionResults, ThePageShowsThemAndWhatHasFailed) {
  config_.mutable_decomposition()->set_tokens(64);
  Add("full<1>", 1, FiguresWithCosine(0.5, 0.02, {0.199, 0.201}));
  Add("full<1>", 2, FiguresWithCosine(0.6, 0.02, {0.199, 0.201}));
  Add("lost", 1, {});
  ended_["runs/lost/seed-1/context-16"] = RunResult{.end = RunResult::End::kFailed, .reason = "no & such"};
  planned_.push_back({.name = "checkpoints/late/context-own", .given = "late"});
  const auto results = Results();
  const std::string html = DecompositionSection(config_, results, "data 12ab");
  EXPECT_EQ(isthmus::testing::WrongMarkup(html), "");
  EXPECT_THAT(html, HasSubstr("runs/lost/seed-1/context-16: no &amp; such"));
  EXPECT_THAT(html, HasSubstr("checkpoints/late/context-own: has not been made yet"));
  EXPECT_THAT(html, HasSubstr("Visible cosine, context 16"));
  EXPECT_THAT(html, HasSubstr("About 64 tokens of validation data each, 500 resamples, 4 draws of each control. data"));
  // A mark for each seed and for the heads in random position, each with its bar, and the line.
  EXPECT_THAT(html, HasSubstr("class=\"bars c0 d0\" d=\"M"));
  EXPECT_THAT(html, HasSubstr("class=\"bars grey\" d=\"M"));
  EXPECT_THAT(html, HasSubstr("class=\"ref grey\""));
  EXPECT_THAT(html, HasSubstr("<b>2.5 (2.4 to 2.6)</b>"));
  EXPECT_THAT(html, HasSubstr("<td>4</td>"));
  // All seeds meet the same random heads: theirs is the interval of each.
  EXPECT_THAT(html, HasSubstr("<td>1 (0.9343 to 1.062)</td>"));
  // Both seeds are one row of means: 2.75, whose interval over two seeds holds 1.
  EXPECT_THAT(html, HasSubstr("<td>2.75 (-0.4266 to 5.927)</td>"));

  const std::string page = SweepPageHtml(config_, {}, results);
  EXPECT_THAT(page, HasSubstr("What the heads pass on"));
  EXPECT_THAT(SweepPageHtml(config_, {}), Not(HasSubstr("What the heads pass on")));
  EXPECT_THAT(DecompositionsText(config_, results), HasSubstr("  runs/lost/seed-1/context-16: no & such\n"));

  const auto json = nlohmann::json::parse(ResultsJson(config_, {}, results))["decompositions"];
  ASSERT_EQ(json.size(), 4u);
  EXPECT_EQ(json[1]["arm"], "full<1>");
  EXPECT_EQ(json[1]["seed"], 2);
  EXPECT_EQ(json[1]["vocabulary"], 100);
  EXPECT_NEAR(json[1]["alignment_gain"]["interval"][0].get<double>(), 2.9, 1e-12);
  EXPECT_NEAR(json[1]["random_head_gain"]["value"].get<double>(), 1.0000125, 1e-7);
  EXPECT_TRUE(json[1]["target_buckets"][1]["alignment_gain"]["value"].is_null());
  EXPECT_EQ(json[2]["problem"], "no & such");
  EXPECT_FALSE(json[2].contains("rank"));
  EXPECT_FALSE(json[3].contains("arm"));
}

}  // namespace
}  // namespace isthmus::sweep
