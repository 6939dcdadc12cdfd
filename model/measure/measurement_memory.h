// Describes the memory in which a rank measures its head while it trains. Its sizes follow from the configuration
// alone.
#ifndef ISTHMUS_MODEL_MEASURE_MEASUREMENT_MEMORY_H_
#define ISTHMUS_MODEL_MEASURE_MEASUREMENT_MEMORY_H_

#include <absl/status/status.h>

#include <algorithm>
#include <cstdint>

#include "model/measure/head_update.h"
#include "model/measure/layer_memory.h"
#include "model/measure/token_sample.h"
#include "ops/loss_form.h"
#include "parallel/shard.h"
#include "proto/config.pb.h"
#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Returns true if a run measures its head at any step. Otherwise it holds no memory for that.
bool MeasuresHead(const proto::RunConfig& config);

struct MeasurementShape {
  int64_t vocabulary = 0;
  int64_t width = 0;         // of what enters the vocabulary-sized factor U: D, or R of a head W = U E
  int64_t hidden_width = 0;  // D
  int64_t layers = 0;
  bool has_down = false, in_embedding = false;  // as HeadShape
  bool sequence_parallel = false;               // with several tensor ranks
  Range shard;                                  // vocabulary rows of this tensor rank
  int tensor_ranks = 1, data_ranks = 1;
  int64_t tokens = 0;       // N of one micro-batch
  int64_t step_tokens = 0;  // over all data ranks
  int64_t sampled = 0;      // tokens of a step whose gradient's spectrum is taken, at most
  DType type = DType::kFloat32;
  LossForm form;
  int64_t offsets = 0;  // K, later targets of a token at most
  // Products of wide numbers are made of bf16 ones (ops/split.h) if the weights are bf16 and the device is a GPU.
  bool split = false;

  // `config` must be resolved, and its model.vocabulary known.
  static MeasurementShape Of(const proto::RunConfig& config, int tensor_rank, Device device);

  DType sum_type() const { return AccumulationType(type); }
  // Work that every rank could repeat is split instead: tensor ranks share a micro-batch's tokens, data ranks share a
  // shard's rows. The first ranks' parts are this long; the last may be shorter or empty.
  int64_t own_tokens() const { return (tokens + tensor_ranks - 1) / tensor_ranks; }
  Range OwnTokens(int tensor_rank) const;
  Range OwnRows(int data_rank) const { return ShardOf(shard.size(), data_ranks, data_rank); }
  // Returns how many tokens are projected at once. `token_chunks` says how often that is for a micro-batch.
  int64_t token_chunk() const;
  int64_t token_chunks() const { return (own_tokens() + token_chunk() - 1) / token_chunk(); }
  // The self-test takes at most this many sampled tokens, every k-th of them. It measures their lost part directly.
  // That costs two products with the head in the sums' type and three in fp64.
  static constexpr int64_t kMostTested = 256;
  int64_t most_tested() const { return std::min(sampled, kMostTested); }
  // Returns how many tokens of a step are sampled.
  int64_t sample_count() const { return TokenSample::Of(step_tokens, sampled).count; }
  // Returns how many tokens of a step have their residual stream sampled, at most.
  int64_t stream_sampled() const { return std::min(sampled, LayerShape::kMostSampled); }
  // Returns how many tokens of a micro-batch a rank has in its residual stream.
  int64_t stream_tokens() const { return sequence_parallel ? tokens / tensor_ranks : tokens; }
  // Returns true if the host may factor the head itself within a step, which takes one thread some seconds at most. The
  // host does a QR of a tensor rank's rows, a QR of what the ranks found, and a singular value decomposition. Every
  // rank gets the same answer.
  bool HostFactorsWithinAStep() const;
  // Returns how many vocabulary rows are gathered at once. As many rows' logits of the sampled tokens exist at once.
  int64_t row_block() const;
  // Returns how many vocabulary rows are widened to fp64 at once.
  int64_t wide_rows() const;
  // Returns the number of rows of all buckets of frequency but the last (model/measure/frequency_buckets.h).
  int64_t frequent_rows() const { return (vocabulary + 9) / 10; }
};

// Memory is [rows, columns] of fp64 unless said otherwise. U is as above, H are hidden states, and A = G W with respect
// to U. P is the projector, and F = A P. Y P are the rows of U of the tokens' targets times P.

// The sums over tokens are neighbours in one tensor.
struct TokenSumMemory {
  Tensor all;              // [1, …]
  Tensor signal_gram;      // AᵀA [width, width]
  Tensor signal_hidden;    // AᵀH [width, D]
  Tensor hidden_gram;      // HᵀH [D, D]
  Tensor projected_gram;   // FᵀF [width, width]
  Tensor hidden_unit_sum;  // [1, D]
};

// This holds the head's Gram matrix and projector, and the memory to find them (model/measure/head_projector.h).
struct HeadMemory {
  Tensor part_gram;                    // [width, width]: of the head, of its gradient, of a bucket, in turn
  Tensor gram;                         // UᵀU [width, width], until the step has ended
  Tensor shard_gram;                   // [width, width]: of this shard's rows; only with several tensor ranks
  Tensor factor;                       // [kGramFactorRows, width]: workspace of FactorGram
  Tensor down;                         // E [width, D]; only of a head W = U E
  Tensor first_square, second_square;  // [width, width] scratch; with several tensor ranks or a head W = U E
  Tensor wide_rows;                    // [wide_rows(), width]; not with fp64
  Tensor wide_projector;               // P [width, width]
  Tensor projector;                    // P [width, width] sum type; the same with fp64
  // Only with `split`: A of a chunk and P as bf16 parts (ops/split.h).
  Tensor signal_parts;     // [chunk, 3 width]
  Tensor projector_parts;  // [6 width, width]
  Tensor unit_sum;         // Σ u / ‖u‖ over rows u of U [1, width]
};

// This belongs to the tokens of a micro-batch (model/measure/step_tokens.h).
struct TokenMemory {
  Tensor loss, log_sum_exp;  // [1, N] sum type
  Tensor energy;             // [tensor ranks, N]
  Tensor retained;           // [1, own tokens] ‖A P‖² by row
  Tensor target_dots;        // [1, own tokens] F · the row of Y P
  // Only where the sum type is not the compute type, whose rounding the head's condition would magnify:
  Tensor shard_signal;  // this shard's part of A [tensor ranks · own tokens, width] sum type
  Tensor signal;        // A of the own tokens [own tokens, width] sum type; `shard_signal` itself of one tensor rank
  // Tensors of a chunk of them.
  Tensor projected, target_basis;  // F and Y P, sum type
  Tensor target_rows;              // compute type
  Tensor all_target_rows;          // [tensor ranks · chunk, width] of all ranks' tokens; only with several
  Tensor wide_target_rows;         // sum type; only where that is not the compute type
  // Tensors of the sampled ones.
  Tensor positions;     // int32 [1, sampled]
  Tensor found_hidden;  // [sampled, D] compute type
};

// This belongs to parts of the vocabulary, and blocks of its rows (model/measure/part_shares.h).
struct PartMemory {
  Tensor row_energy;       // [1, V_i]
  Tensor frequent_rows;    // int32 [1, …]
  Tensor row_block;        // compute type [rows, width]
  Tensor wide_row_block;   // sum type, `row_block` itself where that is the compute type; not with `split`
  Tensor row_block_basis;  // sum type: those rows times P
};

// This belongs to the sampled tokens of a step (model/measure/sampled_gradient.h).
struct SampleMemory {
  Tensor targets;            // int32 [1 + K, sampled]
  Tensor hidden;             // [sampled, D] compute type
  Tensor input;              // [sampled, width] compute type; only of a head W = U E
  Tensor loss, log_sum_exp;  // [1, sampled] sum type
  // LaterTargets says what these are (model/measure/logit_gradient.h). They are not allocated without later targets.
  Tensor future_weights, target_weight, excess_weight, target_logits;
  Tensor logits;  // [sampled, row block] sum type
  Tensor gram;    // [sampled, sampled] sum type
  // Tensors of the self-test's tokens: G of some rows (not allocated with fp64), A_U, F and then (G - G_∥) U. The last
  // one times E is only allocated for a head W = U E.
  Tensor tested_gradient;                  // [tested, wide_rows()]
  Tensor tested_signal, tested_projected;  // [tested, width]
  Tensor tested_passed_on;                 // [tested, D]
};

struct MeasurementMemory {
  TokenSumMemory sums;
  HeadMemory head;
  TokenMemory tokens;
  PartMemory parts;
  SampleMemory sample;
  HeadUpdateMemory update;
  LayerMemory layers;
  Tensor gram_workspace;      // fp32 [1, D²]; not with fp64
  Tensor squares;             // [1, max(own tokens, row block)]
  Tensor embedding_gradient;  // [V_i, D] sum type; only where the head is the embedding table

  static MeasurementMemory Place(const MeasurementShape& shape, TensorPlacer& placer);

  // Adds c += xᵀy (ops/gram.h) by way of gram_workspace.
  absl::Status AddGram(const Tensor& x, const Tensor& y, const Tensor& c, Stream& stream) const;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_MEASUREMENT_MEMORY_H_
