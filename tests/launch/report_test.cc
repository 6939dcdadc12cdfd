// `isthmus report` reads run folders as its users run it. The tests cover the contents of a page, and files that are
// not as a run leaves them.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/markup.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

int CountOf(const std::string& text, const std::string& part) {
  return ProgramResult{.exit_status = 0, .out = text}.Count(part);
}

// Returns <main> with its contents; the head holds style and script.
std::string MainOf(const std::string& page) {
  const size_t begin = page.find("<main>"), end = page.find("</main>");
  if (begin == std::string::npos || end == std::string::npos) return "<no main element>";
  return page.substr(begin, end + 7 - begin);
}

// Returns a line of metrics.jsonl as training writes it.
std::string RecordLine(int step, double loss, double seconds, const std::string& more = "") {
  return absl::StrCat("{\"step\":", step, ",\"tokens\":", step * 100, ",\"elapsed_seconds\":", seconds,
                      ",\"train/loss\":", loss, ",\"train/tokens_per_second\":1000", more, "}\n");
}

constexpr const char* kFirstLine =
    "{\"step\":0,\"run/version\":\"0.1.0\",\"run/vocabulary\":300,\"run/unigram_entropy\":5.5,\"run/"
    "device\":\"CPU\"}\n";

// Folders of runs and the page made from them.
class Report : public ::testing::Test {
 protected:
  // Makes a folder with these metrics; an empty configuration means defaults.
  std::string MakeRun(const std::string& name, const std::string& metrics, const std::string& config = "seed: 1\n") {
    const std::string run = folder_ / name;
    std::filesystem::create_directories(run);
    WriteText(run + "/metrics.jsonl", metrics);
    WriteText(run + "/config.textproto", config);
    return run;
  }
  ProgramResult Start(const std::string& arguments) {
    return RunIsthmus(absl::StrCat("report ", arguments, " --out ", page_));
  }
  // Returns the page of runs that can be reported. It must be complete, well-formed and without anything to load.
  std::string Page(const std::string& arguments) {
    const ProgramResult result = Start(arguments);
    EXPECT_EQ(result.exit_status, 0) << result.out;
    std::string page = ReadText(page_);
    EXPECT_EQ(WrongMarkup(MainOf(page)), "");
    for (const char* loaded : {"http:", "https:", "src=", "@import", "url(", "href=\"/", "fetch(", "XMLHttp", "nan%",
                               ">nan", " nan", "<img", "<iframe", "<object"}) {
      EXPECT_THAT(absl::StrReplaceAll(page, {{"href=\"data:,\"", ""}}), Not(HasSubstr(loaded)));
    }
    EXPECT_EQ(CountOf(page, "<script"), 1);
    return page;
  }
  void ExpectBad(const std::string& arguments, const std::string& message) {
    const ProgramResult result = Start(arguments);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count(message), 1) << "expected once: " << message << "\n" << result.out;
    EXPECT_FALSE(std::filesystem::exists(page_));
  }

  TemporaryFolder folder_;
  std::string page_ = folder_ / "page.html";
};

TEST_F(Report, ComparesTrainedRuns) {
  TinyProject project;
  for (const char* rank : {"8", "16"}) {
    const std::string config = project.WriteConfig(absl::StrCat("rank-", rank), "mesh { tensor: 2 }");
    const ProgramResult trained =
        RunIsthmus(absl::StrCat("train --config ", config, " --set model.head.rank=", rank), 2);
    ASSERT_EQ(trained.exit_status, 0) << trained.out;
  }
  const std::string page = Page(absl::StrCat(project / "rank-8", " ", project / "rank-16/"));
  for (const char* shown : {"rank-8",
                            "rank-16",
                            "Loss against tokens",
                            "Loss against time",
                            "unigram entropy",
                            "Speed-up at equal loss",
                            "Norm lost, against tokens",
                            "Energy lost, against tokens",
                            "random head",
                            "Energy by shard, rank-16",
                            "shard 1, before",
                            "shard 1, after",
                            "Throughput, against time",
                            "Time of a step by phase",
                            "optimizer",
                            "model.head.rank",
                            "2 tensor × 1 data ranks",
                            "finished at step 20",
                            "head of rank 8",
                            "train/gradient_norm"}) {
    EXPECT_THAT(page, HasSubstr(shown));
  }
  // This is the only field that differs, but for the folders.
  EXPECT_EQ(CountOf(page, "<th scope=\"row\"><code>"), 1);
  EXPECT_GE(CountOf(page, "<svg class=\"plot\""), 8);
  // Every plot has its data as a table; so have the bars.
  EXPECT_EQ(CountOf(page, "<summary>Data</summary>"), CountOf(page, "<figure>"));
}

// The numbers are worked out by hand. A ends at the mean of its last 20 of 400 records, loss 10 - 0.01 · 390.5 at
// 39,050 tokens and 390.5 s. B falls twice as fast by step, and takes three seconds for a step. It is there at 195.25
// steps, 585.75 s.
TEST_F(Report, SpeedUpIsAsWorkedOutByHand) {
  std::string a = kFirstLine, b = kFirstLine;
  for (int step = 1; step <= 400; ++step) {
    const std::string validation = step % 100 == 0 ? absl::StrCat(",\"validation/loss\":", 9 - 0.01 * step) : "";
    a += RecordLine(step, 10 - 0.01 * step, step, validation);
    b += RecordLine(step, 10 - 0.02 * step, 3.0 * step, step == 50 || step == 250 ? ",\"validation/loss\":6.0" : "");
  }
  const std::string page = Page(absl::StrCat(MakeRun("a", a), " ", MakeRun("b", b)));
  EXPECT_THAT(page, HasSubstr("To the loss at which a ends: training 6.095, validation 5"));
  EXPECT_THAT(page, HasSubstr("<bdi>b</bdi></th><td>2.00×</td><td>0.67×</td><td>not reached</td><td>not reached</td>"));
  // The other way round A ends above the loss at which B ends. For validation A comes to 6 at 300 steps, B at 250.
  EXPECT_THAT(page, HasSubstr("<bdi>a</bdi></th><td>not reached</td><td>not reached</td><td>0.83×</td><td>2.50×</td>"));
}

TEST_F(Report, LossesOfOtherVocabulariesAreNotCompared) {
  const std::string lines = RecordLine(1, 5, 1) + RecordLine(2, 4, 2);
  const std::string page = Page(absl::StrCat(MakeRun("a", kFirstLine + lines), " ",
                                             MakeRun("b", absl::StrReplaceAll(kFirstLine, {{"300", "4096"}}) + lines)));
  EXPECT_THAT(page, HasSubstr("not comparable: vocabularies of 300 and 4096"));
  EXPECT_THAT(page, Not(HasSubstr("class=\"headline\"")));
}

TEST_F(Report, NamesCannotBringMarkupIn) {
  const std::string name = "<script>alert(1)<b \"&x";
  const std::string run = MakeRun(name,
                                  "{\"step\":0,\"run/version\":\"</script><script>alert(2)</script>\",\"run/device\":"
                                  "\"<img src=x onerror=alert(3)>\"}\n" +
                                      RecordLine(1, 5, 1, ",\"head/<svg onload=alert(4)>\":1") + RecordLine(2, 4, 2));
  const std::string other = MakeRun("other", RecordLine(1, 5, 1) + RecordLine(2, 4, 2, ",\"head/\\u0001\":2"));
  const std::string in_shell = absl::StrReplaceAll(run, {{"\"", "\\\""}});
  // Page() counts elements that run scripts.
  const ProgramResult result = Start(absl::StrCat("\"", in_shell, "\" ", other));
  ASSERT_EQ(result.exit_status, 0) << result.out;
  const std::string page = ReadText(page_);
  EXPECT_EQ(WrongMarkup(MainOf(page)), "");
  EXPECT_EQ(CountOf(page, "<script"), 1);
  EXPECT_EQ(CountOf(page, "</script"), 1);
  EXPECT_EQ(CountOf(page, "<img"), 0);
  EXPECT_EQ(CountOf(page, "<svg onload"), 0);
  EXPECT_THAT(page, HasSubstr("<bdi>&lt;script&gt;alert(1)&lt;b &quot;&amp;x</bdi>"));
  EXPECT_THAT(page, HasSubstr("&lt;/script&gt;&lt;script&gt;alert(2)"));
}

TEST_F(Report, LastLineThatIsStillBeingWrittenIsLeftOutAndSaid) {
  const std::string run =
      MakeRun("running", kFirstLine + RecordLine(1, 5, 1) + RecordLine(2, 4, 2) + "{\"step\":3,\"tok",
              "schedule { steps: 1000 }");
  const ProgramResult result = Start(run);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("line 4 of metrics.jsonl is not whole"), 1) << result.out;
  EXPECT_EQ(result.Count("3 records"), 1) << result.out;
  const std::string page = ReadText(page_);
  EXPECT_THAT(page, HasSubstr("line 4 of metrics.jsonl is not whole"));
  EXPECT_THAT(page, HasSubstr("not finished: at step 2 of 1000"));
  // A last line that only lacks its end is whole.
  const std::string whole = RecordLine(2, 4, 2);
  const ProgramResult complete = Start(MakeRun("whole", RecordLine(1, 5, 1) + whole.substr(0, whole.size() - 1)));
  EXPECT_EQ(complete.exit_status, 0) << complete.out;
  EXPECT_EQ(complete.Count("2 records"), 1) << complete.out;
  EXPECT_EQ(complete.Count("not whole"), 0) << complete.out;
  // A checkpoint on the way is not the end.
  const std::string saved = whole.substr(0, whole.rfind('}')) + ",\"checkpoint/step\":2}\n";
  ASSERT_EQ(Start(MakeRun("saved", RecordLine(1, 5, 1) + saved, "schedule { steps: 1000 }")).exit_status, 0);
  EXPECT_THAT(ReadText(page_), HasSubstr("not finished: at step 2 of 1000"));
}

TEST_F(Report, GarbageIsNamedWithFileAndLine) {
  for (const char* garbage : {"loss 3.5\n", "{\"step\":1,\n", "42\n", "\n", "[1]\n", "{\"step\":1}{\"step\":2}\n",
                              "{\"train/loss\":NaN}\n", "{\"train/loss\":1e999}\n"}) {
    const std::string run =
        MakeRun("garbage", absl::StrCat(kFirstLine, RecordLine(1, 5, 1), garbage, RecordLine(2, 4, 2)));
    ExpectBad(run, run + "/metrics.jsonl:3: is not a JSON object");
  }
}

TEST_F(Report, MissingAndRepeatedFoldersAreNamed) {
  ExpectBad("/nowhere/run", "/nowhere/run: there is no such folder");
  const std::string empty = folder_ / "empty";
  std::filesystem::create_directories(empty);
  ExpectBad(empty, empty + "/metrics.jsonl: can");
  std::filesystem::create_directories(empty + "/metrics.jsonl");
  ExpectBad(empty, "metrics.jsonl: is not a file");
  const std::string run = MakeRun("run", RecordLine(1, 5, 1));
  ExpectBad(absl::StrCat(run, " ", run, "/../run/"), "is given twice");
  ExpectBad("", "RUN... is missing");
  std::string many;
  for (int i = 0; i < 25; ++i) many += " " + run;
  ExpectBad(many, "found 25 runs; accepts 1 to 24");
  const ProgramResult unwritable = RunIsthmus(absl::StrCat("report ", run, " --out ", run, "/metrics.jsonl/page.html"));
  EXPECT_EQ(unwritable.exit_status, 2);
  EXPECT_EQ(unwritable.Count("page.html: can"), 1) << unwritable.out;
}

TEST_F(Report, RecordsThatLackFiguresOrHoldOddOnesMakeAPageAllTheSame) {
  const std::vector<std::string> odd = {
      "",
      "{}\n{}\n",
      "{\"step\":1,\"tokens\":null,\"train/loss\":3}\n",
      RecordLine(1, 5, 1),
      "{\"tokens\":5,\"train/loss\":null}\n{\"tokens\":9,\"train/loss\":2}\n",
      "{\"tokens\":-5,\"train/loss\":3}\n{\"tokens\":\"many\",\"train/loss\":\"low\"}\n",
      "{\"tokens\":5,\"train/loss\":1e300}\n{\"tokens\":6,\"train/loss\":-1e99}\n{\"tokens\":7,\"train/loss\":1e99}\n",
      "{\"tokens\":1e99,\"elapsed_seconds\":1e99,\"train/loss\":0}\n{\"tokens\":1e99,\"train/loss\":0}\n",
      "{\"tokens\":5,\"head/shards\":3,\"head/buckets\":{},\"head/x\":[],\"head/y\":[1,null,-3,\"z\"]}\n",
      "{\"tokens\":5,\"head/shards\":[1,null,{},{\"tp_rank\":null},{\"tp_rank\":1,\"logit_gradient_norm\":null}]}\n",
      "{\"tokens\":5,\"head/h\":{\"bounds\":[1,1],\"counts\":[1,2,3]},\"head/g\":{\"bounds\":[0],\"counts\":[0,0]},"
      "\"head/f\":{\"bounds\":[],\"counts\":[7]},\"head/e\":{\"bounds\":3,\"counts\":null}}\n"};
  std::string all;
  for (size_t i = 0; i < odd.size(); ++i) {
    const std::string run = MakeRun(absl::StrCat("odd-", i), odd[i]);
    Page(run);
    absl::StrAppend(&all, " ", run);
  }
  EXPECT_THAT(Page(all), HasSubstr("metrics.jsonl has no record yet"));
}

TEST_F(Report, ConfigurationOfAnotherVersionIsLeftOutAndSaid) {
  const std::string newer = MakeRun("newer", RecordLine(1, 5, 1) + RecordLine(2, 4, 2), "warp_drive: true\n");
  const std::string page = Page(absl::StrCat(newer, " ", MakeRun("known", RecordLine(1, 5, 1) + RecordLine(2, 4, 2))));
  EXPECT_THAT(page, HasSubstr("its configuration is not shown: "));
  EXPECT_THAT(page, HasSubstr("no field named &quot;warp_drive&quot;"));
}

// Nobody has chosen to read it. Whoever writes to it would wait for its reader.
TEST_F(Report, APipeInTheConfigurationsPlaceIsNotRead) {
  const std::string run = MakeRun("piped", RecordLine(1, 5, 1) + RecordLine(2, 4, 2)), pipe = run + "/config.textproto";
  std::filesystem::rename(pipe, folder_ / "config");
  const ProgramResult result =
      RunShell(absl::StrCat("mkfifo ", pipe, "; cat ", folder_ / "config", " >", pipe, " & ", ProgramPath(), " report ",
                            run, " --out ", page_, "; status=$?; kill $!; exit $status"));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(ReadText(page_), HasSubstr("config.textproto: is not a file; a run keeps its configuration there"));
}

TEST_F(Report, ResumedRunIsShownOnce) {
  std::string lines;
  for (int step = 1; step <= 6; ++step) lines += RecordLine(step, 10 - step, step);
  for (int step = 4; step <= 8; ++step) lines += RecordLine(step, 20 - step, step - 3);
  const std::string page = Page(MakeRun("resumed", lines));
  EXPECT_THAT(page, HasSubstr("went back to an earlier step 1 time"));
  // The page has steps 1 to 3 of the first part and 4 to 8 of the second, and time goes on. It takes 3 s, then 5 more
  // less the first.
  EXPECT_THAT(page, HasSubstr("<dd>800 tokens in 7 s</dd>"));
}

TEST_F(Report, PartsSpectraAndHistogramsAreShownWhereARecordHasThem) {
  const std::string more =
      ",\"head/lost_norm_ratio\":0.9,\"head/isotropic_lost_norm_ratio\":0.95,"
      "\"head/buckets\":[{\"bucket\":\"top_10_percent\",\"logit_gradient_norm\":2,\"retained_gradient_norm\":1},"
      "{\"most_frequent_percent\":0.1,\"logit_gradient_energy\":1,\"retained_energy\":3}],\"head/"
      "singular_values\":[{\"index\":1,\"value\":9},{\"index\":2,\"value\":3},{\"index\":8,\"value\":0.1}],"
      "\"head/sampled_singular_values\":[{\"index\":1,\"value\":5},{\"index\":2,\"value\":4}],"
      "\"head/sampled_tokens\":64,"
      "\"layers\":[{\"layer\":0,\"gradient_norm\":2,\"hidden_anisotropy\":0.25,"
      "\"hidden_centred_anisotropy\":-0.125},{\"layer\":1,\"gradient_norm\":0.5,\"hidden_anisotropy\":0.75}],"
      "\"head/sampled_retained_energy_ratio\":0.1,\"head/best_rank_energy_ratio\":0.6,"
      "\"head/retained_ratio\":{\"bounds\":[0.1,0.2,0.3],\"counts\":[1,2,3,4],\"sum\":2}";
  const std::string page = Page(MakeRun("run", RecordLine(1, 5, 1, more) + RecordLine(2, 4, 2, more)));
  EXPECT_THAT(page, HasSubstr("<bdi>top 10 %, before</bdi> <b>80 %</b>"));
  EXPECT_THAT(page, HasSubstr("<bdi>top 10 %, after</bdi> <b>25 %</b>"));
  EXPECT_THAT(page, HasSubstr("<bdi>most frequent 0.1 %, before</bdi> <b>20 %</b>"));
  EXPECT_THAT(page, HasSubstr("<bdi>most frequent 0.1 %, after</bdi> <b>75 %</b>"));
  // The page shows the lost gradient, and beside it the part that a head in random position loses.
  EXPECT_THAT(
      page,
      HasSubstr("<dt>gradient lost</dt><dd>90 %</dd></div><div class=\"tile\"><dt>random head</dt><dd>95 %</dd>"));
  EXPECT_THAT(page, HasSubstr("<figcaption>Singular values of the head, step 2</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<figcaption>Singular values of the logit gradient, 64 tokens, step 2</figcaption>"));
  EXPECT_THAT(page, HasSubstr("Retained ratio, latest"));
  // Each of the four buckets has a row, the first from 0 on.
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\">0</th><td>10 %</td></tr>"));
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\">0.3000</th><td>40 %</td></tr>"));
  EXPECT_EQ(CountOf(page, "<td>40 %</td>"), 1);
  // A plot's table also has the figures that it compares with.
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\">200</th><td>90 %</td><td>95 %</td></tr>"));
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\">200</th><td>10 %</td><td>60 %</td></tr>"));
  EXPECT_THAT(page, Not(HasSubstr("and is left out")));
  EXPECT_THAT(page, HasSubstr("<bdi>best</bdi> <b>60 %</b>"));
  EXPECT_THAT(page, HasSubstr("Gradient by layer, latest"));
  EXPECT_THAT(page, HasSubstr("<figcaption>Anisotropy by layer, latest</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<figcaption>Centred anisotropy by layer, latest</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\">1</th><td>0.7500</td></tr>"));
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\">0</th><td>-0.1250</td></tr>"));
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\">8</th><td>0.1000</td></tr>"));
}

TEST_F(Report, SpectraOfDifferentStepsSayWhoseTheyAre) {
  const std::string more = ",\"head/singular_values\":[{\"index\":1,\"value\":9},{\"index\":2,\"value\":3}]";
  const std::string kept = ",\"head/sampled_retained_energy_ratio\":0.1";
  const std::string page =
      Page(absl::StrCat(MakeRun("a", RecordLine(1, 5, 1, more) + RecordLine(2, 4, 2, more + kept)), " ",
                        MakeRun("b", RecordLine(1, 5, 1, more + ",\"head/singular_values_step\":0"))));
  EXPECT_THAT(page, HasSubstr("<figcaption>Singular values of the head</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<bdi>a, step 2</bdi>"));
  EXPECT_THAT(page, HasSubstr("<bdi>b, step 0</bdi>"));
  // Run a sampled too few tokens for a best matrix.
  EXPECT_THAT(page, HasSubstr("it would keep everything, and is left out"));
}

TEST_F(Report, LevelsOfLongRunsStandInEveryRowAndStepsKeepTheirDigits) {
  std::string lines = kFirstLine;
  for (int step = 1; step <= 100; ++step) lines += RecordLine(step, 5, step);
  lines += RecordLine(1234567, 4, 200);
  const std::string page = Page(MakeRun("run", lines, "schedule { steps: 2000000 }"));
  EXPECT_THAT(page, HasSubstr("at step 1234567 of 2000000"));
  // Both tables of losses show it, in each of 32 rows.
  EXPECT_EQ(CountOf(page, "<td>5.500</td></tr>"), 64);
  EXPECT_THAT(page, HasSubstr("<bdi>unigram entropy</bdi></th></tr>"));
}

TEST_F(Report, EveryOtherFigureIsExplained) {
  const std::string more = ",\"train/gradient_norm\":2,\"head/alignment_gain\":3,\"head/unheard_of\":4,\"head/\":1";
  const std::string page = Page(MakeRun("run", RecordLine(1, 5, 1, more) + RecordLine(2, 4, 2, more)));
  EXPECT_THAT(page, HasSubstr("<p class=\"note\">Norm of the gradient of all parameters, before clipping.</p>"));
  EXPECT_THAT(page, HasSubstr("<p class=\"note\">How many times more of the norm the head passes on"));
  EXPECT_THAT(page, HasSubstr("<figcaption>head/unheard_of</figcaption>"));
}

// By training losses b is ahead of a by more than c is, and by validation losses it is behind: the headline is c's.
TEST_F(Report, ARunThatValidationDoesNotConfirmDoesNotKeepOthersFromTheHeadline) {
  const auto run = [&](const char* name, double slope, double validation) {
    std::string lines = kFirstLine;
    for (int step = 1; step <= 400; ++step) {
      const std::string more = step % 100 == 0 ? absl::StrCat(",\"validation/loss\":", 9 - validation * step) : "";
      lines += RecordLine(step, 10 - slope * step, step, more);
    }
    return MakeRun(name, lines);
  };
  const std::string page =
      Page(absl::StrCat(run("a", 0.01, 0.01), " ", run("b", 0.02, 0.005), " ", run("c", 0.015, 0.015)));
  EXPECT_THAT(page, HasSubstr("class=\"headline\"><b>"));
  EXPECT_THAT(page, HasSubstr("<bdi>c</bdi></b> reaches the validation loss at which"));
}

TEST_F(Report, LongRunMakesASmallPage) {
  const std::string run = MakeRun("long", "");
  std::ofstream lines(run + "/metrics.jsonl");
  // There are fewer where everything takes many times as long.
  const int steps = TestsAreFew() ? 20000 : 100000;
  for (int step = 1; step <= steps; ++step) {
    lines << RecordLine(step, 3 + (step % 10) * 0.1, step,
                        ",\"head/lost_norm_ratio\":0.97,\"head/lost_energy_ratio\":0.94");
  }
  lines.close();
  const std::string page = Page(run);
  EXPECT_LT(page.size(), 300000u);
  EXPECT_THAT(page, HasSubstr(absl::StrCat("<dd>", steps / 10000, " M tokens in ")));
}

}  // namespace
}  // namespace isthmus::testing
