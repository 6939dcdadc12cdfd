// Reads every byte of a checkpoint.
#ifndef ISTHMUS_CHECKPOINT_VERIFY_H_
#define ISTHMUS_CHECKPOINT_VERIFY_H_

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

struct VerifiedCheckpoint {
  int64_t step = 0;
  int64_t bytes = 0;                  // read and checked
  std::vector<std::string> problems;  // each with file, tensor and offset; empty: the checkpoint is sound
};

// Checks manifest, sizes and checksums of all files. Checks that checksums cover every byte of them, and that the
// tokenizer and the clusters of tokens are the run's. The first few damaged places of a file are named.
VerifiedCheckpoint VerifyCheckpoint(const std::string& folder);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_VERIFY_H_
