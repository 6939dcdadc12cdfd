#include "launch/sweep/decompositions.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "checkpoint/manifest.h"
#include "runtime/config.h"

namespace isthmus::sweep {
namespace {

// The singular values of the gradient are in no result of a sweep, and take long.
constexpr int64_t kSampledTokens = 256;

std::vector<int64_t> ContextsOf(const proto::SweepDecomposition& decomposition) {
  if (decomposition.sequence_lengths().empty()) return {0};
  return {decomposition.sequence_lengths().begin(), decomposition.sequence_lengths().end()};
}

// Adds one for each context. `planned` has the name before it.
void AddContexts(const proto::SweepDecomposition& decomposition, PlannedDecomposition planned,
                 std::vector<PlannedDecomposition>& all) {
  const std::string name = std::move(planned.name);
  for (const int64_t length : ContextsOf(decomposition)) {
    planned.sequence_length = length;
    planned.name = absl::StrCat(name, "/context-", length == 0 ? "own" : absl::StrCat(length));
    all.push_back(planned);
  }
}

// Returns the validation data of a run. If they can't be found, the decomposition says so.
std::string CorpusOf(const std::string& run_folder) {
  const auto run = LoadRunConfig(run_folder);
  return run.ok() && run->data().validation_size() == 1 ? run->data().validation(0) : "";
}

// Returns a checksum by which checkpoints differ; "none" if there is no sound one.
std::string Identity(const std::string& checkpoint) {
  const auto folder = FindCheckpoint(checkpoint);
  if (!folder.ok()) return "none";
  const auto identified = ReadIdentifiedManifest(*folder);
  return identified.ok() ? absl::StrFormat("%016x", identified->checksum) : "none";
}

}  // namespace

std::vector<PlannedDecomposition> PlanDecompositions(const proto::SweepConfig& config,
                                                     absl::Span<const ArmSurvey> arms) {
  std::vector<PlannedDecomposition> all;
  if (!config.has_decomposition()) return all;
  const proto::SweepDecomposition& decomposition = config.decomposition();
  for (const ArmSurvey& arm : arms) {
    if (!IsDecomposed(decomposition, arm.arm)) continue;
    for (const SeedResult& seed : arm.seeds) {
      if (!seed.result.has_value() || seed.result->end != RunResult::End::kFinished) continue;
      const std::string folder = absl::StrCat(config.folder(), "/", seed.run);
      AddContexts(decomposition,
                  {.name = absl::StrCat("runs/", seed.run),
                   .checkpoint = folder,
                   .corpus = CorpusOf(folder),
                   .cell = arm.cell,
                   .arm = arm.arm,
                   .seed = seed.seed},
                  all);
    }
  }
  for (const proto::SweepCheckpoint& checkpoint : decomposition.checkpoints()) {
    AddContexts(decomposition,
                {.name = absl::StrCat("checkpoints/", checkpoint.name()),
                 .checkpoint = checkpoint.path(),
                 .corpus = checkpoint.corpus(),
                 .given = checkpoint.name()},
                all);
  }
  return all;
}

int64_t LaterDecompositions(const proto::SweepConfig& config, int64_t planned) {
  if (!config.has_decomposition()) return 0;
  const proto::SweepDecomposition& decomposition = config.decomposition();
  int64_t checkpoints = std::count_if(config.arms().begin(), config.arms().end(), [&](const proto::SweepChoice& arm) {
    return IsDecomposed(decomposition, arm.name());
  });
  checkpoints *= config.seeds_size();
  for (const proto::SweepAxis& axis : config.axes()) checkpoints *= axis.values_size();
  checkpoints += decomposition.checkpoints_size();
  return std::max<int64_t>(checkpoints * static_cast<int64_t>(ContextsOf(decomposition).size()) - planned, 0);
}

bool IsDecomposed(const proto::SweepDecomposition& decomposition, const std::string& arm) {
  return std::find(decomposition.without().begin(), decomposition.without().end(), arm) ==
         decomposition.without().end();
}

absl::Status CheckLeavesCheckpoint(const proto::RunConfig& run) {
  if (!run.checkpoint().save_final()) {
    return absl::InvalidArgumentError(
        "checkpoint.save_final: false; accepts true for an arm that is decomposed; --set checkpoint.save_final=true");
  }
  if (run.data().has_spamlang() || run.data().validation_size() == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("data.validation: ", run.data().validation_size(),
                                                 " paths; accepts one for an arm that is decomposed"));
}

std::string FolderOfDecomposition(const proto::SweepConfig& config, const PlannedDecomposition& planned) {
  return absl::StrCat(config.folder(), "/decompositions/", planned.name);
}

std::string FiguresPath(const std::string& decomposition_folder) { return decomposition_folder + "/figures.json"; }

std::vector<std::string> ArgumentsOf(const proto::SweepConfig& config, const PlannedDecomposition& planned) {
  const proto::SweepDecomposition& decomposition = config.decomposition();
  std::vector<std::string> line = {"decompose", "--checkpoint", planned.checkpoint};
  if (!planned.corpus.empty()) line.insert(line.end(), {"--corpus", planned.corpus});
  for (const auto& [option, value] :
       {std::pair("--tokens", decomposition.tokens()), std::pair("--sequence-length", planned.sequence_length),
        std::pair("--bootstrap", decomposition.resamples()), std::pair("--controls", decomposition.control_draws()),
        std::pair("--sample-tokens", kSampledTokens)}) {
    line.insert(line.end(), {option, absl::StrCat(value)});
  }
  return line;
}

std::string DecompositionDigest(const proto::SweepConfig& config, const PlannedDecomposition& planned) {
  PlannedDecomposition anywhere = planned;
  anywhere.checkpoint = Identity(planned.checkpoint);
  const std::string text = absl::StrJoin(ArgumentsOf(config, anywhere), "\n");
  return absl::StrFormat("%016x", XXH3_64bits(text.data(), text.size()));
}

}  // namespace isthmus::sweep
