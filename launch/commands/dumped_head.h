// Loads hidden states, head and targets that were dumped as .npy files: a rank's shard of them, or all shards.
#ifndef ISTHMUS_LAUNCH_COMMANDS_DUMPED_HEAD_H_
#define ISTHMUS_LAUNCH_COMMANDS_DUMPED_HEAD_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launch/commands/host_block.h"
#include "model/measure/tensor_decomposition.h"

namespace isthmus {

struct DumpPaths {
  std::string hidden;    // float [N, D]
  std::string head;      // float [V, D]; or, of a head W = U E,
  std::string up, down;  // float [V, R] and [R, D]
  std::string bias;      // float [V, 1], optional
  std::string targets;   // integers [N]
  std::string counts;    // integers [V], optional: how often each token occurs; else counted in `targets`
};

// A rank holds shards [tensor_first, tensor_first + tensor_count) of tensor_ranks, and the same of data ranks.
struct DumpShards {
  int tensor_ranks = 1, tensor_first = 0, tensor_count = 1;
  int data_ranks = 1, data_first = 0, data_count = 1;
};

class DumpedHead {
 public:
  // Reads and checks this rank's part. Errors: those of NpyArray; InvalidArgument naming the file, what was found and
  // what is accepted. It refuses shapes that disagree, a target outside the vocabulary, a number that is not finite,
  // fewer vocabulary rows or tokens than shards.
  static absl::StatusOr<DumpedHead> Load(const DumpPaths& paths, const DumpShards& shards);

  // Returns views of this object's memory.
  HeadTensors Tensors() const;

 private:
  struct Part {
    HostBlock hidden;
    std::vector<int32_t> targets;
    int64_t first_token = 0;
  };
  static absl::StatusOr<HostBlock> ReadBlock(const class NpyArray& array, int64_t begin, int64_t rows);

  DumpPaths paths_;
  int64_t tokens_ = 0, vocabulary_ = 0;
  std::vector<Range> shards_;
  size_t first_shard_ = 0;
  std::vector<HostBlock> weights_, biases_;  // biases_: empty if the head has none
  HostBlock down_;
  std::vector<Part> parts_;
  std::vector<uint64_t> counts_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_DUMPED_HEAD_H_
