// A run's head has a title with all that is set of it, and as many parameters as the model has.
#include "launch/report/head_summary.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace isthmus::report {
namespace {

// A run with a model of width 32 over 300 tokens.
Run RunWithHead(const std::string& model) {
  proto::RunConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "model { width: 32 heads: 4 feed_forward: 64 layers: 2 } data { train: \"tokens\" }", &config));
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString("model { " + model + " }", &config)) << model;
  Run run;
  run.config = config;
  run.facts["vocabulary"] = 300;
  return run;
}

HeadSummary SummaryOf(const std::string& model) { return SummariseHead(RunWithHead(model), 0); }

TEST(HeadSummary, TitleNamesWhatIsSet) {
  EXPECT_EQ(SummaryOf("").title, "head at full width");
  EXPECT_EQ(SummaryOf("head { rank: 8 }").title, "head of rank 8");
  EXPECT_EQ(SummaryOf("tied_embeddings: true").title, "tied head");
  EXPECT_EQ(SummaryOf("head { backward { kind: \"plain\" damping: 0.5 } weight_gradient { kind: \"full\" } }").title,
            "head at full width");
  EXPECT_EQ(SummaryOf("head { backward { kind: \"rank\" rank: 4 interval: 1 } }").title,
            "head at full width, backward rank (rank 4)");
  EXPECT_EQ(SummaryOf("head { rank: 8 backward { kind: \"preconditioned\" damping: 0.01 } "
                      "weight_gradient { kind: \"visible\" match_norm: true } }")
                .title,
            "head of rank 8, backward preconditioned (damping 0.01), weight gradient visible (match norm)");
  EXPECT_EQ(SummariseHead(report::Run(), 0).title, "");
}

TEST(HeadSummary, ParametersAreThoseOfTheModel) {
  EXPECT_EQ(SummaryOf("").parameters, 300 * 32);
  EXPECT_EQ(SummaryOf("head { rank: 8 }").parameters, 300 * 8 + 8 * 32);
  EXPECT_EQ(SummaryOf("tied_embeddings: true").parameters, 0);
  // A padded vocabulary is larger than that of the token shards.
  EXPECT_EQ(SummaryOf("vocabulary: 320").parameters, 320 * 32);
}

TEST(HeadSummary, ImpossibleConfigurationsHaveNoParameters) {
  for (const char* model : {"width: 0", "width: 33", "width: 4000000000000000000", "vocabulary: -1", "vocabulary: 9",
                            "head { rank: -3 }", "head { kind: \"unheard of\" }", "family: \"unheard of\"", "heads: 0",
                            "head { backward { kind: \"unheard of\" } }"}) {
    EXPECT_TRUE(std::isnan(SummaryOf(model).parameters)) << model;
  }
  report::Run run = RunWithHead("");
  for (const double vocabulary : {-1.0, 0.5, 1e300, std::nan(""), std::numeric_limits<double>::infinity()}) {
    run.facts["vocabulary"] = vocabulary;
    EXPECT_TRUE(std::isnan(SummariseHead(run, 0).parameters)) << vocabulary;
  }
  EXPECT_TRUE(std::isnan(SummariseHead(report::Run(), 0).parameters));
}

TEST(HeadSummary, LossesAreComparedWhereEveryRunHasOne) {
  report::Run runs[3] = {RunWithHead(""), RunWithHead(""), report::Run()};
  for (int i = 1; i <= 40; ++i) {
    runs[0].figures["train/loss"].Add(100 * i, i, 10 - 0.1 * i);
    if (i <= 30) runs[1].figures["train/loss"].Add(100 * i, i, 10 - 0.2 * i);
  }
  // Both curves end at the centre of ten records: of steps 31 to 40, and of 21 to 30.
  const double common = CommonTokens(runs);
  EXPECT_NEAR(common, 2550, 1e-9);
  const HeadSummary longer = SummariseHead(runs[0], common), shorter = SummariseHead(runs[1], common);
  EXPECT_NEAR(longer.loss, 10 - 3.55, 1e-12);
  EXPECT_NEAR(longer.common_loss, 10 - 2.55, 1e-12);
  EXPECT_NEAR(shorter.loss, 10 - 5.1, 1e-12);
  EXPECT_EQ(shorter.common_loss, shorter.loss);
  // Between two points the loss lies on a straight line.
  EXPECT_NEAR(SummariseHead(runs[0], 2525).common_loss, 10 - 2.525, 1e-12);
  for (const double beyond : {1.0, 99.0, 3551.0}) {
    EXPECT_TRUE(std::isnan(SummariseHead(runs[0], beyond).common_loss)) << beyond;
  }
  EXPECT_TRUE(std::isnan(CommonTokens(absl::MakeConstSpan(&runs[2], 1))));
  EXPECT_TRUE(std::isnan(SummariseHead(runs[2], common).loss));
}

}  // namespace
}  // namespace isthmus::report
