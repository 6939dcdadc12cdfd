// A report runs in a real browser without errors and requests. It is no wider than a phone, and shows values by
// keyboard.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

TEST(ReportPage, OpensWithoutErrorsOrRequestsAtAnyWidthInLightAndDark) {
  TemporaryFolder folder;
  std::string runs;
  for (const char* name : {"a-run-with-a-name-as-long-as-a-description-of-its-whole-configuration", "b"}) {
    const std::string run = folder / name;
    std::filesystem::create_directories(run);
    std::string lines = "{\"step\":0,\"run/version\":\"0.1.0\",\"run/unigram_entropy\":6.5,\"run/device\":\"CPU\"}\n";
    for (int step = 1; step <= 100; ++step) {
      absl::StrAppend(
          &lines, "{\"step\":", step, ",\"tokens\":", step * 4096, ",\"elapsed_seconds\":", step,
          ",\"train/loss\":", 3.0 + 5.0 / step, ",\"train/tokens_per_second\":4096",
          ",\"time/forward_seconds\":0.4,\"time/backward_seconds\":0.6,\"validation/loss\":", 3.2 + 5.0 / step,
          ",\"head/lost_norm_ratio\":0.97,\"head/lost_energy_ratio\":0.94",
          ",\"head/visible_cosine\":0.2,\"head/hidden_update_cosine\":0.02,\"head/conditioning_cosine\":0.1",
          ",\"head/hidden_gradient_norm\":0.1,\"head/gradient_norm\":", 1.0 + 1.0 / step,
          ",\"updates\":[{\"part\":\"head\",\"first_order_decrease\":2},{\"part\":\"blocks\",",
          "\"first_order_decrease\":", 1.0 / step, "}],\"token_gaps/steps\":{\"bounds\":[1,8,64],\"counts\":[1,", step,
          ",3,4]},\"token_gaps/median_steps\":9,\"token_gaps/median_kappa\":0.9}\n");
    }
    WriteText(run + "/metrics.jsonl", lines);
    WriteText(run + "/config.textproto", absl::StrCat("folder: \"", name, "\" seed: ", std::string(name).size()));
    absl::StrAppend(&runs, " ", run);
  }
  const std::string page = folder / "report.html";
  ASSERT_EQ(RunIsthmus(absl::StrCat("report", runs, " --out ", page)).exit_status, 0);
  // Every part of the page is looked at.
  for (const char* section : {"Heads side by side", "What a step changes", "Gaps between a token’s occurrences"}) {
    EXPECT_NE(ReadText(page).find(section), std::string::npos) << section;
  }
  for (const char* options : {"--width 320 --open", "--width 360 --dark", "--width 1200 --open"}) {
    const ProgramResult result =
        RunShell(absl::StrCat(SourceFolder(), "/tests/support/open_page ", page, " ", options));
    if (result.exit_status == 77) GTEST_SKIP() << result.out;
    ASSERT_EQ(result.exit_status, 0) << result.out;
    const auto seen = nlohmann::json::parse(result.out);
    EXPECT_EQ(seen["requests"], nlohmann::json::array());
    EXPECT_EQ(seen["console"], nlohmann::json::array());
    EXPECT_EQ(absl::StrCat("--width ", seen["width"].get<int>()),
              std::string(options).substr(0, std::string(options).find(" --", 1)));
    // One hundredth left of the end of 409.6 k tokens, with the values of all lines.
    const std::string keyboard = seen["keyboard"];
    EXPECT_EQ(keyboard.rfind("405.5 k: a-run-with-a-name", 0), 0u) << keyboard;
    for (const char* value :
         {"whole-configuration, validation 3.251", ", b, validation 3.251", ", unigram entropy 6.5"}) {
      EXPECT_NE(keyboard.find(value), std::string::npos) << keyboard;
    }
  }
}

}  // namespace
}  // namespace isthmus::testing
