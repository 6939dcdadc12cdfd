// Loads the head of a checkpoint, and the hidden states that the model has on tokens of a data set.
#ifndef ISTHMUS_LAUNCH_COMMANDS_CHECKPOINT_HEAD_H_
#define ISTHMUS_LAUNCH_COMMANDS_CHECKPOINT_HEAD_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/commands/host_block.h"
#include "model/measure/tensor_decomposition.h"
#include "model/measure/visible_shares.h"
#include "ops/loss_form.h"
#include "parallel/mesh.h"

namespace isthmus {

struct CheckpointRequest {
  std::string checkpoint;  // or a run folder: its newest one
  // Token shards (.ids) or a folder of them, of the tokenizer that the model was trained with. Empty for a model that
  // was trained on data.spamlang: then its validation samples are read.
  std::string corpus;
  int64_t tokens = 4096;        // at least one sequence for each data rank, else rounded down to whole ones
  int64_t sequence_length = 0;  // of the samples, T; 0: as the model was trained
  int64_t jacobian_tokens = 0;  // at most, for the shares of single tokens' gradients
};

class CheckpointHead {
 public:
  // Runs the model forward, on the CPU in the precision that it was trained in, on samples of the corpus. A fixed seed
  // chooses them: for any mesh the same. Samples of another length are other places of the text. No part of a model has
  // a table of positions, so sequences may also be longer than those that it was trained on. This rank then holds its
  // shard of the head and its tokens. A rank that is alone holds as many of either as `tensor` and `data` ranks would.
  // Collective over the mesh; fails on all ranks or none. Errors: those of FindCheckpoint, ReadManifest, LoadWeights and
  // TokenDataset. InvalidArgument when the corpus was made with another tokenizer, is smaller than a sequence for each
  // data rank, or is one too many or missing.
  static absl::StatusOr<CheckpointHead> Load(const CheckpointRequest& request, int tensor, int data, const Mesh& mesh);

  // Returns why the head has no tensors; empty if it has. Such a head has `visible` alone.
  const std::string& not_linear() const { return not_linear_; }
  // Returns views of this object's memory.
  HeadTensors Tensors() const;
  // Returns the tokens of a sequence, T.
  int64_t sequence_length() const { return sequence_length_; }
  // Returns the shares of single tokens' gradients, if they were asked for.
  const std::optional<VisibleShares>& visible() const { return visible_; }

 private:
  static HostBlock Widened(const ConstTensor& tensor);

  std::string folder_, not_linear_;
  struct Ranks {
    int tensor = 1, data = 1;  // ranks whose work is done, by this rank alone or by all
    int first_shard = 0, first_part = 0;
    bool alone = true;
  } ranks_;
  int64_t tokens_ = 0, vocabulary_ = 0, sequence_length_ = 0;  // of all ranks
  LossForm form_;
  HostBlock weight_, bias_, down_, hidden_;
  std::vector<int32_t> targets_;
  std::vector<uint64_t> counts_;
  std::optional<VisibleShares> visible_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_CHECKPOINT_HEAD_H_
