// These are the finished parts of a pretraining run on this rank, and how far it has come. launch/run/setup.h makes
// them; launch/run/loop.h trains with them.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_PARTS_H_
#define ISTHMUS_LAUNCH_RUN_RUN_PARTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "launch/run/recorder.h"
#include "launch/run/resume.h"
#include "launch/run/run_checkpoints.h"
#include "launch/run/run_data.h"
#include "launch/run/run_lock.h"
#include "launch/run/run_messages.h"
#include "launch/run/run_request.h"
#include "launch/run/run_state.h"
#include "launch/run/seen_symbols.h"
#include "launch/run/stability.h"
#include "launch/watch/rank_watch.h"
#include "model/measure/head_decomposition.h"
#include "model/train/token_gaps.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "proto/config.pb.h"
#include "runtime/data/batch_loader.h"
#include "runtime/stop_signals.h"
#include "runtime/stream.h"

namespace isthmus {

// Parts refer to those above them, so that the whole must not move.
struct RunParts {
  explicit RunParts(const RunRequest& request)
      : signals(request.signals),
        watch(request.watch),
        world(request.world),
        local_rank(request.local_rank),
        config(request.config) {}
  RunParts(const RunParts&) = delete;
  RunParts& operator=(const RunParts&) = delete;

  std::unique_ptr<RunLock> lock;  // rank 0; the last to go
  const StopSignals& signals;
  RankWatch& watch;
  Communicator& world;
  const int local_rank;
  proto::RunConfig config;  // resolved
  Stream stream;
  std::optional<Mesh> mesh;
  std::unique_ptr<RunMessages> messages;
  RunData data;
  std::unique_ptr<BatchLoader> loader;  // of the batches after state.batches
  std::unique_ptr<Stability> stability;
  std::unique_ptr<HeadDecomposition> decomposition;  // null if the run never measures its head
  std::unique_ptr<TrainingModel> model;
  std::optional<TokenGaps> gaps;
  std::optional<SeenSymbols> seen;  // of a run on data.spamlang
  std::unique_ptr<Recorder> recorder;
  std::unique_ptr<RunCheckpoints> checkpoints;
  ResumePlan plan;                             // of this start, or of the latest rollback
  std::optional<RestoredCheckpoint> restored;  // what training goes on from; none: the beginning
  RunState state;
};

// Returns the description of the present state that goes into its checkpoint.
TrainingMoment MomentOf(const RunParts& run);

// Notes the newest complete checkpoint in `run.state`, if this start has saved one, and returns the noted one.
const std::string& NewestCheckpoint(RunParts& run);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_PARTS_H_
