// Decomposes the head of tensors that lie in memory, in fp64 (DESIGN 4.5). This is the most accurate way, at the price
// of one more product with the head. An orthonormal basis Q of the head comes from a tall-skinny QR. The projected
// gradient F = G Q comes from G itself, so that a badly conditioned head costs no accuracy.
//
// Vocabulary rows and tokens are cut into shards, as over tensor and data ranks. A rank holds one shard of each, or
// several. A single process that holds all of them computes the same as the ranks together, by the same code.
#ifndef ISTHMUS_MODEL_MEASURE_TENSOR_DECOMPOSITION_H_
#define ISTHMUS_MODEL_MEASURE_TENSOR_DECOMPOSITION_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/measure/head_figures.h"
#include "ops/loss_form.h"
#include "parallel/communicator.h"
#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace isthmus {

// This holds a data rank's tokens.
struct TokenPart {
  ConstTensor hidden;       // fp64 [n, D], after the final norm
  ConstTensor targets;      // int32 [1, n], in [0, V)
  int64_t first_token = 0;  // its place among all
};

struct HeadTensors {
  int64_t tokens = 0, vocabulary = 0;  // of all ranks
  std::vector<Range> shards;           // vocabulary rows of every tensor rank; none is empty
  size_t first_shard = 0;              // that this rank holds
  std::vector<ConstTensor> weights;    // fp64 [V_i, D], or U [V_i, R] of a head W = U E
  std::vector<ConstTensor> biases;     // b fp64 [V_i, 1] of each of them; empty: the head has none
  ConstTensor down;                    // E fp64 [R, D] of a head W = U E
  std::vector<TokenPart> parts;
  absl::Span<const uint64_t> counts;  // [V] how often each token of the vocabulary occurs: its bucket of frequency
  LossForm form;
  int64_t sample_tokens = 2048;   // at most, for the spectrum of G
  int64_t block_tokens = 0;       // consecutive tokens that a resample takes together; a checkpoint's are a sequence
  int64_t resamples = 0;          // for HeadFigures::intervals, with block_tokens; 0: none
  int64_t control_draws = 0;      // for HeadFigures::controls; 0: none, else at least 2
  bool equal_norm_steps = false;  // whether to find HeadFigures::equal_norm_steps (model/measure/tensor_steps.h)
  // The names of H, the head (or U) and E in messages.
  std::string hidden_name = "hidden states", head_name = "head", down_name = "head's factor E";
};

// Collective over both groups. Every rank of `tensor` holds equally many shards, and all of them the same tokens. Needs
// memory beyond the tensors: two times that of `weights`, three times if it is scaled, and logits of a few tokens.
// Tensors whose squares would overflow or vanish in fp64 are scaled by powers of two (model/measure/tensor_scales.h).
// Controls need as much memory as one Q of the head, and a pass over the tokens for each draw and kind of control.
// Errors: InvalidArgument, naming row and column, if a number of a tensor, a logit or a token's loss is not finite; for
// intervals with fewer than two blocks or too many; those of collectives.
absl::StatusOr<HeadFigures> DecomposeTensors(const HeadTensors& tensors, Communicator& tensor, Communicator& data);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TENSOR_DECOMPOSITION_H_
