// The data of a run are opened, checked, and cut into training and validation samples.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_DATA_H_
#define ISTHMUS_LAUNCH_RUN_RUN_DATA_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "parallel/communicator.h"
#include "proto/config.pb.h"
#include "runtime/data/sample_source.h"
#include "runtime/data/spamlang.h"
#include "runtime/data/token_tables.h"
#include "runtime/stop_signals.h"

namespace isthmus {

struct RunData {
  SampleSet training, validation;
  double unigram_entropy = 0;   // of the training data, nats per token
  int64_t short_shards = 0;     // training shards that give no sample
  std::string tokenizer_model;  // the model file's bytes, as they were when the data were opened; empty: none
  TokenTables tables;           // of the model's vocabulary
};

// Returns the tokens that a step trains on, over all data ranks.
int64_t TokensPerStep(const proto::RunConfig& config);

// Opens the data that config.data, which is resolved, names; `verify` reads all of it once, unless a signal ends that.
// `source` is the configuration's file, for messages. Errors: those of TokenDataset; InvalidArgument if the tokenizer is
// not the shards', or training and validation shards disagree.
absl::StatusOr<RunData> OpenRunData(const proto::RunConfig& config, bool verify, const std::string& source,
                                    const StopSignals& signals);

// Makes the samples of a configuration with data.spamlang, which is resolved.
std::shared_ptr<const SpamLang> MakeSpamLang(const proto::RunConfig& config, SpamLang::Use use);

// Counts how often each of the `vocabulary` tokens of the model occurs in the training data.
void CountTokens(int64_t vocabulary, RunData& data);

// Checks that all ranks have opened the same data. Another node may have other files under the same names, and would
// train on them. Collective; the same on all ranks. Errors: FailedPrecondition, naming the ranks that differ and the
// difference.
absl::Status CheckSameData(const RunData& data, Communicator& world);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_DATA_H_
