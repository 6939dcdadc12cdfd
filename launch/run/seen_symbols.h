// Knows which symbols of SpamLang (runtime/data/spamlang.h) a run has trained on. That follows from the numbers of the
// batches alone: it is the same on every rank, and after every resume.
#ifndef ISTHMUS_LAUNCH_RUN_SEEN_SYMBOLS_H_
#define ISTHMUS_LAUNCH_RUN_SEEN_SYMBOLS_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "proto/checkpoint.pb.h"
#include "runtime/data/spamlang.h"

namespace isthmus {

class SeenSymbols {
 public:
  struct Options {
    int64_t sequences = 1;           // of a batch
    uint64_t seed = 0;               // of the run
    int64_t batches = 0;             // that were trained on or passed over before
    std::vector<int64_t> untrained;  // those of them that were passed over, ascending
  };
  // `data` are training samples.
  SeenSymbols(std::shared_ptr<const SpamLang> data, Options options);

  // Is called when a step on the batch was applied. Batches since the last call were passed over. Costs nothing: the
  // symbols are drawn when somebody asks for them.
  void Train(int64_t batch);
  // Returns which of the batches 1 to `batches` were passed over, ascending; `batches` is not below a trained one.
  std::vector<int64_t> Untrained(int64_t batches) const;

  // Returns for each of the S symbols whether a trained batch had it. Draws about S ln S samples in all, and no more
  // when all were seen.
  const std::vector<bool>& Seen();
  // Returns the share of the S symbols that were.
  double SeenShare();
  // Returns the number of trained sequences, each an independent draw, divided by S.
  double SequencesPerSymbol() const;

 private:
  std::shared_ptr<const SpamLang> data_;
  Options options_;         // `batches` and `untrained` up to the latest trained batch
  int64_t looked_at_ = 0;   // the latest batch whose symbols are in seen_
  size_t passed_over_ = 0;  // how many of options_.untrained are up to that one
  std::vector<bool> seen_;
  int64_t count_ = 0;  // of symbols seen
};

// Checks that a manifest's batches without training can be: they are ascending, and all others were a step's. Errors:
// DataLoss with the field, what was found and what is accepted; `folder` is the checkpoint's.
absl::Status CheckUntrained(const proto::CheckpointManifest& manifest, int64_t sequences, const std::string& folder);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_SEEN_SYMBOLS_H_
