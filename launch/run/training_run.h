// One pretraining run on this rank: sets up mesh, data and model, loops over steps, measures, writes the run folder.
#ifndef ISTHMUS_LAUNCH_RUN_TRAINING_RUN_H_
#define ISTHMUS_LAUNCH_RUN_TRAINING_RUN_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "launch/run/resume.h"
#include "launch/run/run_checkpoints.h"
#include "launch/run/run_data.h"
#include "launch/run/run_lock.h"
#include "launch/run/stability.h"
#include "launch/watch/rank_watch.h"
#include "launch/watch/stragglers.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "proto/checkpoint.pb.h"
#include "proto/config.pb.h"
#include "proto/telemetry.pb.h"
#include "runtime/data/batch_loader.h"
#include "runtime/log.h"
#include "runtime/stop_signals.h"
#include "runtime/stream.h"
#include "runtime/telemetry/progress.h"
#include "runtime/telemetry/sinks.h"

namespace isthmus {

class TrainingRun {
 public:
  // Everything before the first step. `config` is as loaded, the same on every rank; it is resolved and checked here,
  // against the world and the data, and written to the run folder. `source`: the file it came from, for messages.
  // `resume`: what to continue from (launch/run/resume.h). `signals`: end Create or Train early. `watch` is started
  // once the folder has a log, and told where training is. Collective; fails on all ranks or none. `local_rank`: this
  // rank's place on its node. `signals`, `watch` and `world` must outlive the run; `progress` receives rank 0's
  // display. Errors: Cancelled when a signal came, on whatever rank; nothing is lost then.
  static absl::StatusOr<std::unique_ptr<TrainingRun>> Create(proto::RunConfig config, const std::string& source,
                                                             const std::string& resume, const StopSignals& signals,
                                                             RankWatch& watch, Communicator& world, int local_rank,
                                                             std::ostream& progress, bool progress_is_terminal);

  // Trains to the end, saving checkpoints. One that can't be saved on the way costs that checkpoint, the last one is an
  // error. Errors: Cancelled when a signal came, on whatever rank, and a checkpoint was saved; WorthAnotherStart
  // (runtime/exit_status.h) when it could not be; Aborted when training diverged; of the data, with the state saved; of
  // collectives.
  absl::Status Train();

  // After Train: what it ended with.
  struct Summary {
    bool already_complete = false;  // what was continued from had nothing left to train
    int64_t steps = 0;
    int64_t tokens = 0;
    double seconds = 0;
    double train_loss = 0;
    double validation_loss = 0;
    std::optional<HeadFigures> head;  // of the last telemetry step
    std::string checkpoint;           // newest folder, empty when none was saved
  };
  const Summary& summary() const { return summary_; }
  const proto::RunConfig& config() const { return config_; }
  double unigram_entropy() const { return data_.unigram_entropy; }

 private:
  TrainingRun(const StopSignals& signals, RankWatch& watch, Communicator& world, std::ostream& progress,
              bool progress_is_terminal)
      : signals_(signals),
        watch_(watch),
        world_(world),
        progress_stream_(progress),
        progress_is_terminal_(progress_is_terminal) {}

  absl::Status OpenData(const std::string& source);
  // Before anything in the folder is looked at: a run that is ending may still change it.
  absl::Status LockFolder(const std::string& resume);
  // Log, and for a new run everything else; of a run that is continued nothing changes before it is restored.
  absl::Status OpenFolder(const std::string& resume);
  absl::Status OpenRecords();
  // If the disk is full and the run was there already, returns OK and notes it. The run starts all the same, and loses
  // what it can't write.
  absl::Status Bear(absl::Status status);
  absl::Status BuildModel();
  // Takes state and step from a checkpoint, where the plan has one.
  absl::Status Continue();
  // From the plan's checkpoint.
  absl::Status RestoreState();
  // Checkpoints of steps after the latest, so that training can save its own. The restored one gets its step's name, if
  // it lies in the run folder under another name.
  absl::Status SetAsideLaterCheckpoints();
  // The part of rank 0.
  absl::Status TidyCheckpoints();
  // The batches after position_.
  void OpenLoader();
  absl::Status WriteFirstRecord();

  // What a run of several ranks says of them. Collective.
  absl::Status FillRanks(proto::TelemetryRecord& record);
  // Hands the record to the sinks: all of it on rank 0, only the rank's own figures on others.
  void Publish(proto::TelemetryRecord record);
  // What the sinks had to say goes to the log.
  void LogNotes();
  // One step with its record. Sets `last` when the run is over after it. Where the step is refused, summary_.steps
  // tells what is the latest one that the weights have seen.
  absl::Status TrainStep(int64_t step, bool& last);
  // The head's tensors of a step as files (launch/run/head_dump_files.h); files that can't be written are logged and
  // counted. Collective. Errors: of collectives.
  absl::Status DumpHead(int64_t step, HeadDump& dump);
  // Of a step that was not applied (launch/run/refused_step.cc): as config.stability has it.
  absl::Status Refuse(int64_t step, int64_t batch, const StepResult& result);
  // Where on the ranks a step was not finite, and whether a weight was.
  absl::StatusOr<std::string> DescribeUnsoundStep(const StepFigures& figures, bool& weights_finite);
  // `before`: the moment to save, unless the weights are not savable.
  absl::Status Halt(int64_t step, const StepResult& result, const TrainingMoment& before, bool savable,
                    const std::string& what);
  // The end that data make which can't be read: what has been trained is kept, as by Halt. `error`: of all ranks.
  absl::Status EndOfData(const absl::Status& error);
  // Saves the state, if it is savable, no checkpoint has it, and the configuration wants any. Says which checkpoint is
  // the newest, and what failed. Collective. Errors: of collectives.
  absl::StatusOr<std::string> KeepState(const TrainingMoment& moment, bool savable);
  // As plan_ says, which PlanRollback has made.
  absl::Status RollBack();
  // The log, and rank 0's display.
  void Say(const std::string& text);
  // The end that a signal makes where what it asks for fails. Errors: `error`, when it is a rank's, else
  // WorthAnotherStart.
  absl::Status StoppedUnsaved(int signal, const absl::Status& error);
  // Until the last one, or a signal.
  absl::Status TrainSteps();
  // Errors: Aborted if the last validation loss is not finite.
  absl::Status CheckLastUpdate() const;
  // Nothing when a signal ended it, which then is all that is missing of its step. The last one is seen through.
  int64_t ValidationBatches() const;
  absl::StatusOr<std::optional<double>> ValidationLoss(bool last);
  // Seconds since the start of training, the same on every rank. Collective.
  absl::StatusOr<double> AgreedElapsed();
  double Elapsed() const;
  // How often each token of the model's vocabulary occurs in the training shards.
  std::vector<uint64_t> Counts() const;
  // The record of the latest step, which can tell of checkpoints now.
  void PublishRecord();
  TrainingMoment Moment() const;
  int64_t TokensPerStep() const { return config_.batch().sequences() * config_.data().sequence_length(); }

  std::unique_ptr<RunLock> lock_;  // rank 0; the last to go
  const StopSignals& signals_;
  RankWatch& watch_;
  Communicator& world_;
  std::ostream& progress_stream_;
  bool progress_is_terminal_;
  int local_rank_ = 0;
  proto::RunConfig config_;
  Stream stream_;
  std::string device_name_;
  std::optional<Mesh> mesh_;
  std::shared_ptr<Log> log_;
  RunData data_;
  std::unique_ptr<BatchLoader> loader_;
  int64_t position_ = 0;  // the latest batch that was trained on or passed over
  std::unique_ptr<Stability> stability_;
  std::unique_ptr<TrainingModel> model_;
  std::unique_ptr<Sinks> sinks_;
  Stragglers stragglers_;
  proto::Histogram step_times_;    // of the steps since the last record
  proto::TelemetryRecord record_;  // of the latest step, until it can tell of a checkpoint
  ResumePlan plan_;
  std::string full_disk_;                              // what a full disk kept from being written at the start
  std::optional<proto::CheckpointManifest> restored_;  // what the run continues from
  std::string restored_folder_;                        // where it was, empty for the beginning
  proto::RunRecord run_facts_;                         // of the run's first record
  proto::RunRecord resumed_run_;                       // the same for the first record after a checkpoint was loaded
  std::unique_ptr<RunCheckpoints> checkpoints_;
  std::unique_ptr<Progress> progress_;  // rank 0
  int64_t failed_dumps_ = 0;            // of the head's tensors
  double peak_flops_ = 0;               // of all ranks
  bool told_of_peak_ = false;           // that a step exceeded it
  std::set<std::string> told_of_head_;  // reasons why a head could not be measured, without their numbers
  double causal_flops_per_token_ = 0, full_flops_per_token_ = 0;
  double start_seconds_ = 0;  // on the monotonic clock
  Summary summary_;
  int64_t noted_failures_ = 0;  // checkpoints of which the screen says that they could not be saved
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_TRAINING_RUN_H_
