// Every kind of head works from the command line: a run, text from its checkpoint, its figures and its plan.
#include "tests/support/every_head.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

// Writes the configuration of a short run with that head.
std::string WriteHeadConfig(const TinyProject& project, const SmallHead& head) {
  std::string path = project.WriteConfig(head.kind);
  const std::string text = ReadText(path);
  const std::string changed =
      absl::StrReplaceAll(text, {{"feed_forward: 64 ", absl::StrCat("feed_forward: 64 ", ModelText(head), " ")},
                                 {"layers: 2", "layers: 1"},
                                 {"steps: 20", "steps: 4"},
                                 {"interval: 5", "interval: 2 jacobian_tokens: 2"}});
  EXPECT_NE(changed, text);
  WriteText(path, changed);
  return path;
}

void ExpectShares(const nlohmann::json& record, const std::string& prefix) {
  for (const char* name : {"logit_cosine", "log_probability_cosine"}) {
    ASSERT_TRUE(record.contains(prefix + name)) << prefix << name;
    EXPECT_GT(record.at(prefix + name), 0.0) << name;
    EXPECT_LE(record.at(prefix + name), 1.0 + 1e-9) << name;
  }
}

TEST(EveryHead, IsTrainedSampledDecomposedAndPlanned) {
  const TinyProject project;
  for (const SmallHead& head : EveryHead()) {
    SCOPED_TRACE(head.kind);
    const std::string config = WriteHeadConfig(project, head), run = project / head.kind;
    const ProgramResult trained = RunIsthmus(absl::StrCat("train --config ", config));
    ASSERT_EQ(trained.exit_status, 0) << trained.out;
    const std::vector<double> losses = Losses(run);
    ASSERT_FALSE(losses.empty());
    for (const double loss : losses) EXPECT_TRUE(std::isfinite(loss) && loss > 0) << loss;
    const nlohmann::json last = Records(run).back();
    // Either the decomposition or the layers' gradients, and always the shares of single tokens.
    EXPECT_TRUE(last.contains("layers") || last.contains("head/visible_cosine")) << last;
    ExpectShares(last, "visible_share/");

    const ProgramResult sampled =
        RunIsthmus(absl::StrCat("sample --checkpoint ", run, " --prompt \"the cat\" --tokens 4 --temperature 0"));
    EXPECT_EQ(sampled.exit_status, 0) << sampled.out;
    EXPECT_EQ(sampled.Count("the cat"), 1) << sampled.out;

    const ProgramResult decomposed =
        RunIsthmus(absl::StrCat("decompose --checkpoint ", run, " --corpus ", project / "tokens/validation",
                                " --tokens 64 --jacobian-tokens 2"));
    ASSERT_EQ(decomposed.exit_status, 0) << decomposed.out;
    ExpectShares(nlohmann::json::parse(decomposed.out).at("visible_share"), "");

    const ProgramResult planned =
        RunIsthmus(absl::StrCat("plan --config ", config, " --device h100 --set model.vocabulary=300"));
    EXPECT_EQ(planned.exit_status, 0) << planned.out;
    EXPECT_EQ(planned.Count("fits: "), 1) << planned.out;
  }
}

}  // namespace
}  // namespace isthmus::testing
