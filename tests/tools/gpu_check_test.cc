// Tests tools/gpu-check: its arguments, its output, and that its bundle works where nothing else is installed.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/backends.h"
#include "runtime/device.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Script() { return SourceFolder() + "/tools/gpu-check"; }

// Runs a bash script that may use the functions of tools/gpu_check. It knows $self, the folder tools, $place, a folder
// for its files, and $program.
ProgramResult RunScript(const TemporaryFolder& place, const std::string& text) {
  WriteText(place / "script", "set -uo pipefail\nself=" + SourceFolder() + "/tools place=" + place.path() +
                                  " program=" + ProgramPath() + "\n" + text);
  return RunShell("bash " + (place / "script"));
}

TEST(GpuCheck, WrongArgumentsAreNamedWithWhatIsAccepted) {
  struct Case {
    const char *arguments, *message;
  };
  for (const auto& [arguments, message] :
       {Case{"", "needs --bundle or --out DIR"}, Case{"--outt x", "unknown argument \"--outt\""},
        Case{"--out", "--out needs a value"}, Case{"--out /tmp --seconds soon", "accepts a whole number"},
        Case{"--out /tmp --only tests,benhc", "found \"benhc\"; accepts doctor tests"},
        Case{"--out /tmp --bundle-file /nowhere", "no bundle /nowhere"}}) {
    const ProgramResult result = RunShell(Script() + " " + arguments);
    EXPECT_EQ(result.exit_status, 64) << result.out;
    EXPECT_THAT(result.out, HasSubstr(message));
  }
}

TEST(GpuCheck, HelpListsEveryOptionThatIsRead) {
  const ProgramResult help = RunShell(Script() + " --help");
  EXPECT_EQ(help.exit_status, 0);
  for (const char* option : {"--bundle ", "--out ", "--bundle-file ", "--only ", "--seconds ", "--without-gpu "}) {
    EXPECT_THAT(help.out, HasSubstr(option));
  }
}

TEST(GpuCheck, StepsFailAloneAndResultsAreJsonAndMarkdown) {
  const TemporaryFolder folder;
  const ProgramResult result = RunScript(folder, R"sh(
    root=$place work=$place/work out=$place without_gpu=yes seconds=0
    mkdir -p "$root/bin" "$work/logs" "$work/steps"
    ln -s "$program" "$root/bin/isthmus"
    printf 'commit=a"b\\c\npacked=now\n' >"$root/VERSION"
    printf 'loader=system\nnvidia_path=/x\n' >"$root/machine"
    source "$self/gpu_check/report.sh"
    source "$self/gpu_check/steps.sh"
    run_step 'good "one"' 600 bash -c 'echo all is well | tee "$details"; echo 41.5 >"$figures"'
    run_step bad 600 bash -c 'echo "broken|pipe"; echo "{" >"$figures"; exit 1'
    run_step judged 600 bash -c 'echo 7 >"$figures"; exit 3'
    now() { if [ -e "$place/slow" ]; then echo 1; else echo 0; fi; }
    run_step slow 1 bash -c 'touch "$1" && exec sleep 1000' bash "$place/slow"
    rm "$place/slow"
    may_skip='not here' run_step none 600 bash -c 'echo no GPU; exit 77'
    run_step tests 600 printf '%s\n' '[==========] 4 tests from 1 test suite ran. (1 ms total)' \
      '[  PASSED  ] 3 tests.' '[  SKIPPED ] 1 test, listed below:'
    run_step skipped 600 printf '%s\n' '[==========] 2 tests from 1 test suite ran. (1 ms total)' \
      '[  PASSED  ] 0 tests.' '[  SKIPPED ] 2 tests, listed below:'
    seconds=1
    run_step late 600 true
    write_logs
    echo "failed steps: $failed_steps"
  )sh");
  ASSERT_THAT(result.out, HasSubstr("failed steps: 5\n"));
  const auto results = nlohmann::json::parse(ReadText(folder / "results.json"));
  EXPECT_EQ(results["bundle_commit"], "a\"b\\c");
  EXPECT_THAT(results["doctor"].get<std::string>(), HasSubstr("isthmus    "));
  struct Step {
    const char *name, *result, *note;
    int exit_status;
  };
  const Step expected[] = {{"good \"one\"", "passed", "all is well", 0},
                           {"bad", "failed", "broken|pipe", 1},
                           {"judged", "failed", "", 3},
                           {"slow", "out of time", "ended after 1 s", 143},
                           {"none", "skipped", "no GPU (not here)", 77},
                           {"tests", "passed", "3 passed, 1 skipped, 0 failed", 0},
                           {"skipped", "failed", "0 passed, 2 skipped, 0 failed (nothing was checked)", 0},
                           {"late", "not started", "the time given with --seconds is over", -1}};
  ASSERT_EQ(results["steps"].size(), std::size(expected));
  for (size_t i = 0; i < std::size(expected); ++i) {
    const auto& step = results["steps"][i];
    EXPECT_EQ(step["name"], expected[i].name);
    EXPECT_EQ(step["result"], expected[i].result) << step;
    EXPECT_EQ(step["note"], expected[i].note);
    EXPECT_EQ(step["exit_status"], expected[i].exit_status);
  }
  EXPECT_EQ(results["steps"][0]["figures"], 41.5);
  EXPECT_TRUE(results["steps"][1]["figures"].is_null());
  EXPECT_EQ(results["steps"][2]["figures"], 7) << "what was not good enough is kept";
  const std::string markdown = ReadText(folder / "results.md");
  EXPECT_THAT(markdown, HasSubstr("| bad | failed | "));
  EXPECT_THAT(markdown, HasSubstr("broken\\|pipe"));
  EXPECT_THAT(markdown, HasSubstr("```\nall is well\n```"));
  EXPECT_TRUE(std::filesystem::exists(folder / "logs.tar.gz"));
}

// A command may be done with anything before the next line of the script. That includes the file that a test takes for
// the clock.
TEST(GpuCheck, TheTimeOfAStepBeginsBeforeItsCommand) {
  const TemporaryFolder folder;
  const ProgramResult result = RunScript(folder, R"sh(
    root=$place work=$place/work out=$place without_gpu=yes seconds=0
    mkdir -p "$root/bin" "$work/logs" "$work/steps"
    ln -s "$program" "$root/bin/isthmus"
    : >"$root/VERSION"
    printf 'loader=system\nnvidia_path=/x\n' >"$root/machine"
    source "$self/gpu_check/report.sh"
    source "$self/gpu_check/steps.sh"
    now() {
      [ -n "$running" ] || touch "$place/asked"
      echo 0
    }
    run_step quick 1 true
    [ -e "$place/asked" ] || echo "the command ran already"
    echo "failed steps: $failed_steps"
  )sh");
  EXPECT_THAT(result.out, HasSubstr("failed steps: 0\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("ran already")));
}

// A step that is out of time leaves no process that holds the GPU. That holds for processes that a function of the
// stages started, that take long to end, or that never end by themselves. Events replace the clock in this test. A step
// is out of time once $1.ready exists, and its time to save is over once $1.told exists.
TEST(GpuCheck, AStepThatIsOutOfTimeEndsWithAllThatItHasStarted) {
  const TemporaryFolder folder;
  const ProgramResult result = RunScript(folder, R"sh(
    root=$place work=$place/work out=$place without_gpu=yes seconds=0 grace_seconds=3
    mkdir -p "$root/bin" "$root/tools" "$work/logs" "$work/steps"
    ln -s "$program" "$root/bin/isthmus"
    ln -s "$self/gpu_check" "$root/tools/gpu_check"
    : >"$root/VERSION"
    printf 'loader=system\nnvidia_path=/x\n' >"$root/machine"
    source "$self/gpu_check/report.sh"
    source "$self/gpu_check/steps.sh"
    now() {
      local time=0
      [ ! -e "$place/$step.ready" ] || time=1
      [ ! -e "$place/$step.told" ] || time=9
      echo "$time"
    }
    # A second signal would end a program at once, before it has saved.
    kill() {
      if [ "$1" = -TERM ]; then
        [ -z "$(printf '%s\n' "$@" | sort | uniq -d)" ] || echo "told twice: $*"
      fi
      builtin kill "$@"
    }
    step=saver
    cat >"$place/saver" <<'TEXT'
      trap 'sleep 1; touch "$1.saved"; exit 5' TERM
      touch "$1.ready"
      while true; do sleep 0.1; done
TEXT
    run_function saving 1 bash "$place/saver" "$place/saver"
    [ -e "$place/saver.saved" ] || echo "did not wait for what was saving"
    step=stubborn
    run_step stubborn 1 perl -e '$SIG{TERM} = sub { open(F, q(>), "$ARGV[0].told") };
      open(F, q(>), "$ARGV[0].ready"); sleep 1 while 1' "$place/stubborn"
    # What starts processes in groups of their own, as mpirun does.
    step=starter
    run_step starter 1 bash -c 'trap "touch $0.told; exit" TERM
      perl -e "setpgrp; \$SIG{TERM} = q(IGNORE); open(F, q(>), qq(\$ARGV[0].ready)); sleep 1000" "$0" &
      while true; do sleep 0.1; done' \
      "$place/starter"
    # A killed process may take a moment to be gone.
    for ((tries = 0; tries < 9000; ++tries)); do
      pgrep -f "$place/(saver|stubborn|starter)" >"$place/left" || break
      sleep 0.1
    done
    [ ! -s "$place/left" ] || echo "something is left"
    echo "failed steps: $failed_steps"
  )sh");
  EXPECT_THAT(result.out, HasSubstr("failed steps: 3\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("told twice")));
  EXPECT_THAT(result.out, Not(HasSubstr("something is left")));
  EXPECT_THAT(result.out, Not(HasSubstr("did not wait")));
  EXPECT_THAT(result.out, HasSubstr("out of time"));
}

// Runs the comparisons of the stages for GPUs, with a run on the CPU.
TEST(GpuCheck, TwoRunsAreComparedByFiguresAndTensors) {
  const TinyProject project;
  const TemporaryFolder folder;
  const std::string common =
      absl::StrCat(R"sh(
    root=$place work=$place
    source "$self/gpu_check/gpu_stages.sh"
    train_tiny() {
      OMP_NUM_THREADS=1 "$program" train --config )sh",
                   project.WriteConfig("tiny"), R"sh( --set folder="$work/$1" --set schedule.steps=6 "${@:2}"
    }
    train_other() { train_tiny "$1" --set optimizer.epsilon="$([[ $1 = *first ]] && echo 1e-8 || echo 1e-7)" "${@:2}"; }
  )sh");
  const ProgramResult same = RunScript(folder, common + "twice train_tiny");
  EXPECT_EQ(same.exit_status, 0) << same.out;
  EXPECT_THAT(same.out, HasSubstr("figures and 1 files of tensors agree bit for bit"));
  const ProgramResult other_figures = RunScript(folder, common + "twice train_other");
  EXPECT_NE(other_figures.exit_status, 0) << other_figures.out;
  EXPECT_THAT(other_figures.out, HasSubstr("train/loss"));
  // The figures are the same; the saved files are not.
  const ProgramResult other = RunScript(
      folder, common + "figures_of() { seq -f '\"train/loss\":%g,\"head/buckets\":[' 9; }; twice train_other");
  EXPECT_NE(other.exit_status, 0) << other.out;
  EXPECT_THAT(other.out, HasSubstr(".tensors"));
  const ProgramResult lost = RunScript(folder, common + "find() { true; }; twice train_tiny");
  EXPECT_NE(lost.exit_status, 0) << lost.out;
  EXPECT_THAT(lost.out, HasSubstr("no tensors to compare"));
}

// Returns 34 steps of 100 tokens, of a second each, that take half a second more where they are measured.
std::string Metrics(int interval) {
  std::string lines =
      "{\"step\":0,\"run/peak_flops\":1e6,\"run/causal_flops_per_token\":5000,\"run/device\":\"NVIDIA H200\"}\n";
  double elapsed = 0;
  for (int step = 1; step <= 34; ++step) {
    const bool measured = interval > 0 && step % interval == 0;
    const double seconds = measured ? 1.5 : 1;
    elapsed += seconds;
    absl::StrAppend(&lines, "{\"step\":", step, ",\"tokens\":", 100 * step, ",\"elapsed_seconds\":", elapsed,
                    ",\"train/loss\":3.25,\"train/step_seconds\":", seconds,
                    ",\"time/telemetry_seconds\":", measured ? 0.25 : 0, "}\n");
  }
  return lines;
}

TEST(GpuCheck, SpeedIsThatOfTheStepsBetweenTheThirteenthAndTheLastButOne) {
  const TemporaryFolder folder;
  WriteText(folder / "plain", Metrics(0));
  WriteText(folder / "measured", Metrics(10));
  const std::string stages = "root=$place; source \"$self/gpu_check/gpu_stages.sh\"; ";
  const ProgramResult plain = RunScript(folder, stages + "speed_of \"$place/plain\" 0");
  ASSERT_EQ(plain.exit_status, 0) << plain.out;
  auto figures = nlohmann::json::parse(plain.out);
  EXPECT_EQ(figures["device"], "NVIDIA H200");
  EXPECT_EQ(figures["tokens_per_second"], 100);
  EXPECT_EQ(figures["step_seconds"], 1);
  EXPECT_EQ(figures["causal_utilisation_ratio"], 0.5);
  EXPECT_EQ(figures["loss"], 3.25);
  EXPECT_TRUE(figures["measured_step_seconds"].is_null());
  const ProgramResult measured = RunScript(folder, stages + "speed_of \"$place/measured\" 10");
  ASSERT_EQ(measured.exit_status, 0) << measured.out;
  figures = nlohmann::json::parse(measured.out);
  EXPECT_EQ(figures["telemetry_interval"], 10);
  EXPECT_EQ(figures["step_seconds"], 1.05);
  EXPECT_EQ(figures["plain_step_seconds"], 1);
  EXPECT_EQ(figures["measured_step_seconds"], 1.5);
  EXPECT_EQ(figures["telemetry_seconds"], 0.25);
  // The requested measurement was not made, or the run ended early.
  EXPECT_NE(RunScript(folder, stages + "speed_of \"$place/plain\" 10").exit_status, 0);
  EXPECT_NE(RunScript(folder, stages + "speed_of \"$place/measured\" 0").exit_status, 0);
  EXPECT_NE(RunScript(folder, stages + "head -30 \"$place/plain\" >\"$place/short\"; speed_of \"$place/short\" 0")
                .exit_status,
            0);
}

TEST(GpuCheck, CostsAreJudged) {
  const TemporaryFolder folder;
  WriteText(folder / "plain", Metrics(0));
  WriteText(folder / "measured", Metrics(10));
  const std::string cost = R"sh(
    root=$place work=$place figures=$place/figures details=$place/details
    source "$self/gpu_check/gpu_stages.sh"
    speed_of "$place/plain" 0 >"$work/speed-0.json"
    speed_of "$place/measured" 10 >"$work/speed-10.json"
    train_overhead 10 )sh";
  const ProgramResult met = RunScript(folder, cost + "0.0501 && cat \"$figures\"");
  EXPECT_EQ(met.exit_status, 0) << met.out;
  EXPECT_THAT(met.out, HasSubstr("\"added_ratio\": 0.05000, \"added_ratio_within_run\": 0.05000"));
  const ProgramResult missed = RunScript(folder, cost + "0.0499");
  EXPECT_NE(missed.exit_status, 0);
  EXPECT_THAT(missed.out, HasSubstr("added within the run: 0.05000, at-most 0.0499 wanted: NOT MET"));
  EXPECT_THAT(missed.out, HasSubstr("added to another run: 0.05000, at-most 0.0579 wanted: met"));
  // If every step is measured, there are no others to compare with.
  WriteText(folder / "measured", Metrics(1));
  const ProgramResult every = RunScript(folder, R"sh(
    root=$place work=$place figures=$place/figures details=$place/details
    source "$self/gpu_check/gpu_stages.sh"
    speed_of "$place/measured" 1 >"$work/speed-1.json"
    train_overhead 1 >/dev/null && cat "$figures")sh");
  ASSERT_EQ(every.exit_status, 0) << every.out;
  const auto figures = nlohmann::json::parse(every.out);
  EXPECT_EQ(figures["added_ratio"], 0.5);
  EXPECT_TRUE(figures["added_ratio_within_run"].is_null());
  const std::string judge = "root=$place details=$place/details; source \"$self/gpu_check/gpu_stages.sh\"; judge x ";
  EXPECT_EQ(RunScript(folder, judge + "0.6 at-least 0.58").exit_status, 0);
  EXPECT_NE(RunScript(folder, judge + "0.57 at-least 0.58").exit_status, 0);
  EXPECT_NE(RunScript(folder, judge + "null at-most 0.58").exit_status, 0);
}

// Makes a bundle of the program alone, as built here.
class SmallBundle : public ::testing::Test {
 protected:
  SmallBundle() {
    const ProgramResult made = RunScript(folder_, R"sh(
      root=$place/bundle
      mkdir -p "$root/bin" "$root/tools"
      cp -r "$self/gpu-check" "$self/gpu_check" "$root/tools/"
      ln -s "$program" "$root/bin/isthmus"
      printf 'commit=x\nc_library=2.17\n' >"$root/VERSION"
      : >"$root/nvidia-libraries"
      cd "$root" && find . -type f ! -name SHA256SUMS -print0 | xargs -0 sha256sum >SHA256SUMS
    )sh");
    EXPECT_EQ(made.exit_status, 0) << made.out;
  }
  ProgramResult Check() { return RunShell(bundle() + "/tools/gpu-check --out " + (folder_ / "out")); }
  std::string bundle() const { return folder_ / "bundle"; }

 private:
  TemporaryFolder folder_;
};

TEST_F(SmallBundle, SaysThatThereIsNoGpu) {
  if (CudaDeviceCount().ok()) GTEST_SKIP() << "there is a GPU";
  const ProgramResult result = Check();
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.out, HasSubstr("no GPU here; the bundle is whole"));
  EXPECT_EQ(result.Count("\n"), 1) << result.out;
}

TEST_F(SmallBundle, DamageIsFoundFirst) {
  WriteText(bundle() + "/VERSION", "commit=y\nc_library=2.17\n");
  const ProgramResult result = Check();
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.out, HasSubstr("./VERSION: FAILED"));
}

TEST_F(SmallBundle, ALibraryThatTheMachineLacksIsNamed) {
  const ProgramResult result = RunShell("cd " + bundle() +
                                        " && echo libnowhere.so.7 >nvidia-libraries"
                                        " && find . -type f ! -name SHA256SUMS | xargs sha256sum >SHA256SUMS"
                                        " && tools/gpu-check --out out");
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.out, HasSubstr("libnowhere.so.7 not found; they come with the CUDA Toolkit"));
}

// The bundle has everything but the compression. The programs of this build start from it, alone and under mpirun, with
// this machine's loader and with the bundle's.
TEST(GpuCheckBundle, HoldsAllThatItsProgramsNeed) {
  const std::string build = std::filesystem::path(ProgramPath()).parent_path().string();
  for (const char* program : {"/bench/kernels_bench", "/tests/ops_tests", "/tests/parallel_mpi_tests"}) {
    if (!std::filesystem::exists(build + program)) GTEST_SKIP() << build << program << " was not built";
  }
  if (!kHasCuda || RunShell("ldd " + ProgramPath() + " | grep -q libcudnn").exit_status != 0) {
    GTEST_SKIP() << "this build has no CUDA: the bundle is made of the preset cuda";
  }
  const TemporaryFolder folder;
  const ProgramResult made = RunScript(folder, R"sh(
    source "$self/gpu_check/bundle.sh"
    source "$self/gpu_check/unpack.sh"
    bundle=$place/bundle
    collect_bundle "$self/.." "$(dirname "$program")" "$bundle" 2>"$place/log" || { cat "$place/log"; exit 1; }
    check_integrity "$bundle" && prepare_machine "$bundle"
  )sh");
  ASSERT_EQ(made.exit_status, 0) << made.out;
  const std::string bundle = folder / "bundle";
  for (const std::string library : {"libcublasLt.so.13", "libcuda.so.1", "libcudnn.so.9"}) {
    EXPECT_FALSE(std::filesystem::exists(absl::StrCat(bundle, "/lib/", library))) << library << " is NVIDIA's";
  }
  EXPECT_THAT(ReadText(bundle + "/nvidia-libraries"), HasSubstr("libcublasLt.so."));
  for (const char* loader : {"system", "bundled"}) {
    SCOPED_TRACE(loader);
    EXPECT_EQ(RunShell("sed -i s/^loader=.*/loader=" + std::string(loader) + "/ " + bundle + "/machine").exit_status,
              0);
    // Nothing of Open MPI but the bundle's is used, in an empty environment.
    const std::string start = absl::StrCat("env -i HOME=/tmp PATH=", bundle, "/bin:/usr/bin:/bin ", bundle, "/bin/");
    const ProgramResult doctor = RunShell(start + "isthmus doctor");
    EXPECT_EQ(doctor.exit_status, 0) << doctor.out;
    EXPECT_THAT(doctor.out, HasSubstr("mpirun     " + bundle + "/bin/mpirun"));
    const ProgramResult collectives =
        RunShell(absl::StrCat(start, "mpirun --oversubscribe --bind-to none -n 2 ", bundle,
                              "/bin/parallel_mpi_tests '--gtest_filter=Communicator.*'"));
    EXPECT_EQ(collectives.exit_status, 0) << collectives.out;
    EXPECT_EQ(collectives.Count("[  PASSED  ]"), 2) << collectives.out;
    EXPECT_THAT(collectives.out, Not(HasSubstr("failed to open")));
  }
}

}  // namespace
}  // namespace isthmus::testing
