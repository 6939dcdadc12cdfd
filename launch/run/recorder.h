// Makes the telemetry records of a run on this rank. They say what is known of each step; the recorder knows when the
// sinks get them.
#ifndef ISTHMUS_LAUNCH_RUN_RECORDER_H_
#define ISTHMUS_LAUNCH_RUN_RECORDER_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launch/run/run_checkpoints.h"
#include "launch/run/run_messages.h"
#include "launch/run/run_state.h"
#include "launch/run/stability.h"
#include "launch/watch/rank_watch.h"
#include "launch/watch/stragglers.h"
#include "model/measure/head_decomposition.h"
#include "model/measure/head_dump.h"
#include "model/train/parameter_groups.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "proto/config.pb.h"
#include "proto/telemetry.pb.h"
#include "runtime/telemetry/sinks.h"

namespace isthmus {

// This is a step that was applied.
struct TakenStep {
  int64_t step = 0;
  double learning_rate = 0;
  double seconds = 0;  // all of it
  StepResult result;   // its seconds are those of the data, too
  bool last = false;   // of the run
  std::optional<HeadDecomposition::Result> measured;
  std::optional<proto::ValidationRecord> validation;
  proto::TokenGapRecord gaps;  // of a step that gets a record
};

class Recorder {
 public:
  // All that the arguments refer to must outlive the recorder.
  Recorder(const proto::RunConfig& config, Mesh& mesh, RankWatch& watch, RunMessages& messages,
           std::unique_ptr<Sinks> sinks);

  // Makes the run's first record. `groups` are those of the optimizer, for the records of steps. If the run goes on
  // after `resumed_step`, that step has a record already: the facts then come with the next step's.
  void Begin(const proto::RunRecord& facts, std::vector<ParameterGroupFigures> groups,
             std::optional<int64_t> resumed_step);

  // Writes the head's tensors of a step as files (launch/run/head_dump_files.h). Files that can't be written are logged
  // and counted. `counts` says how often each token occurs in the training shards. Collective. Errors: of collectives.
  absl::Status DumpHead(int64_t step, HeadDump& dump, absl::Span<const uint64_t> counts);
  // Every step is counted, whether it gets a record or not.
  void Count(const TakenStep& taken);
  // Warns, once for each reason, of a head that could not be measured.
  void TellOfHead(const HeadFigures& head);
  // Makes the step's record, and shows it. It is kept until Publish, when it can tell of checkpoints. Collective.
  // Errors: of collectives; there is no record then.
  absl::Status Record(const TakenStep& taken, const RunState& state, const Stability& stability);
  // Makes the last record of a run that halts at a step, which tells why there is none after it.
  void RecordHalt(int64_t step, const StepFigures& figures, const RunState& state, const Stability& stability);
  // Returns true if a record is kept that has a validation loss.
  bool has_validation() const { return record_.has_validation(); }
  // Hands the record that is kept, if any, to the sinks: all of it on rank 0, only the rank's own figures on others.
  void Publish(RunCheckpoints& checkpoints);
  // Writes the sinks' messages to the log.
  void TellNotes();

  // Ends all records, with the messages that the sinks still have. Waits for them at most as long as
  // Sinks::kCloseDeadline.
  void Close();
  // Is called after Close, when training goes back. Drops what is known of later steps, and goes on with other sinks.
  void Forget();
  void GoOn(std::unique_ptr<Sinks> sinks, int64_t resumed_step);

 private:
  void HandOut(proto::TelemetryRecord record);
  // Fills in a step's times, on all ranks and on this one. Collective.
  absl::Status FillTimes(const TakenStep& taken, proto::TelemetryRecord& record);

  const proto::RunConfig& config_;
  Mesh& mesh_;
  RankWatch& watch_;
  RunMessages& messages_;
  std::unique_ptr<Sinks> sinks_;
  Stragglers stragglers_;
  proto::Histogram step_times_;    // of the steps since the last record
  proto::TelemetryRecord record_;  // of the latest step, until it can tell of a checkpoint
  proto::RunRecord facts_;
  std::vector<ParameterGroupFigures> groups_;
  std::optional<int64_t> resumed_step_;            // the next record says so, with the facts
  std::set<std::string> told_;                     // messages that a run says once, without their numbers
  int64_t failed_dumps_ = 0, noted_failures_ = 0;  // of the head's tensors; of checkpoints, that the display has shown
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RECORDER_H_
