#include "launch/run/restored_state.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/rotation.h"
#include "runtime/data/batch_loader.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns true if the restored checkpoint lies in the run folder, under whatever name.
bool RestoredFromItsFolder(const RunParts& run) { return run.plan.continued && run.restored.has_value(); }

// Does the part of rank 0.
absl::Status TidyCheckpoints(const RunParts& run) {
  Log& log = run.messages->log();
  const std::string& run_folder = run.config.folder();
  if (RestoredFromItsFolder(run)) {
    const std::string& restored = run.restored->folder;
    ISTHMUS_ASSIGN_OR_RETURN(const NamedCheckpoint named, NameAfterStep(run_folder, restored, run.state.steps));
    if (named.renamed) log.Warning(absl::StrCat("renamed: ", restored, " is ", run.state.checkpoint, " now"));
    if (!named.set_aside.empty()) log.Warning("set aside: " + named.set_aside);
  }
  ISTHMUS_ASSIGN_OR_RETURN(const LaterCheckpoints later, SetAsideLater(run_folder, run.state.steps));
  if (!later.latest.empty()) log.Warning(later.latest);
  if (!later.names.empty()) log.Warning("set aside: " + absl::StrJoin(later.names, ", "));
  return absl::OkStatus();
}

}  // namespace

absl::Status RestoreState(RunParts& run) {
  ISTHMUS_ASSIGN_OR_RETURN(run.restored,
                           Restore(run.plan, run.config, run.data, *run.model, *run.mesh, run.messages->log()));
  const proto::CheckpointManifest& manifest = run.restored->manifest;
  run.state.batches = manifest.samples() / run.config.batch().sequences();
  run.state.steps = manifest.step();
  run.state.tokens = manifest.tokens();
  run.state.validation_loss = manifest.validation_loss();
  run.gaps->Restore(run.restored->token_gaps, manifest.step());
  if (run.plan.continued) run.state.checkpoint = CheckpointFolder(run.config.folder(), manifest.step());
  return absl::OkStatus();
}

absl::Status SetAsideLaterCheckpoints(RunParts& run) {
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(run.world, run.world.rank() == 0 ? TidyCheckpoints(run) : absl::OkStatus()));
  // A rollback to the run's starting checkpoint finds it by its new name.
  if (RestoredFromItsFolder(run)) run.plan.candidates = {run.state.checkpoint};
  return absl::OkStatus();
}

void OpenLoader(RunParts& run) {
  const auto& data = run.config.data();
  if (data.has_spamlang()) {
    SeenSymbols::Options options{
        .sequences = run.config.batch().sequences(), .seed = run.config.seed(), .batches = run.state.batches};
    if (run.restored.has_value()) {
      const auto& untrained = run.restored->manifest.untrained_batches();
      options.untrained.assign(untrained.begin(), untrained.end());
    }
    run.seen.emplace(MakeSpamLang(run.config, SpamLang::Use::kTraining), std::move(options));
  }
  std::vector<int64_t> pass_over = run.stability->passed_over();
  pass_over.insert(pass_over.end(), data.pass_over().begin(), data.pass_over().end());
  run.loader =
      std::make_unique<BatchLoader>(run.data.training, BatchLoaderOptions{.sequences = run.config.batch().sequences(),
                                                                          .data_rank = run.mesh->data_rank(),
                                                                          .data_ranks = run.mesh->data_ranks(),
                                                                          .seed = run.config.seed(),
                                                                          .first_batch = run.state.batches + 1,
                                                                          .pass_over = std::move(pass_over),
                                                                          .prefetch = data.prefetch_batches()});
}

}  // namespace isthmus
