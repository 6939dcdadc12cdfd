// The model's parameters: their names, shapes and shards, and the arenas that hold them and their gradients.
//
// All parameters of a rank lie one behind another in one flat arena, in the order of the forward pass; gradients lie at
// the same element offsets of a second arena, in fp32 (fp64 with fp64). A segment is a run of parameters whose
// gradients are complete at the same moment of the backward pass: the embedding, each layer, the final norm with the
// head.
//
// Names (as in Llama's published weights, without prefixes), all matrices [out, in]:
//   embedding.weight [V, D]
//   layers.i.attention_norm.weight, layers.i.feed_forward_norm.weight [1, D]
//   layers.i.attention.{q,k,v}_proj.weight [heads·head_dim, D], layers.i.attention.o_proj.weight [D, H·head_dim]
//   layers.i.feed_forward.{gate,up}_proj.weight [F, D], layers.i.feed_forward.down_proj.weight [D, F]
//   final_norm.weight [1, D]
//   head.weight [V, D], or factorised W = U E: head.up.weight [V, R] (U) and head.down.weight [R, D] (E); none when
//   tied
#ifndef ISTHMUS_MODEL_PARAMETERS_H_
#define ISTHMUS_MODEL_PARAMETERS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_shape.h"
#include "parallel/shard.h"
#include "runtime/arena.h"
#include "runtime/tensor.h"

namespace isthmus {

// Which dimension is cut over the tensor ranks.
enum class Sharding { kReplicated, kRows, kColumns };

struct ParameterSpec {
  std::string name;
  int64_t rows = 0;  // of the whole parameter
  int64_t columns = 0;
  Sharding sharding = Sharding::kReplicated;
  Range shard;          // rows or columns of this tensor rank; with kReplicated all rows
  double init_std = 0;  // of the normal initial values; 0: ones
  bool decay = true;    // weight decay applies (matrices)
  int segment = 0;
  int64_t offset = 0;  // first element in the arenas

  int64_t local_rows() const { return sharding == Sharding::kColumns ? rows : shard.size(); }
  int64_t local_columns() const { return sharding == Sharding::kColumns ? shard.size() : columns; }
  int64_t local_size() const { return local_rows() * local_columns(); }
  // Index in the whole parameter, row-major, of the local element (row, column).
  int64_t GlobalIndex(int64_t row, int64_t column) const {
    if (sharding == Sharding::kRows) row += shard.begin;
    if (sharding == Sharding::kColumns) column += shard.begin;
    return row * columns + column;
  }
};

// The table of parameters of one rank, without memory: what `plan` counts and what the store allocates.
struct ParameterTable {
  std::vector<ParameterSpec> specs;
  std::vector<Range> segments;  // element ranges, in arena order; each a multiple of 16 · data_ranks elements
  int64_t size = 0;             // elements of the arena, with padding

  // data_ranks: the padding of segments lets every data rank own an equal part (see parallel/gradient_reducer.h).
  static ParameterTable Build(const ModelShape& shape, const TensorShard& shard, int data_ranks);

  // Parameters of the whole model, not only of this rank.
  int64_t GlobalCount() const;
  // Elements of the vocabulary-sized factor of the head in the arenas: the embedding table's, where it is that.
  Range HeadElements() const;
  // Index into specs, -1 when there is none of that name.
  int Find(std::string_view name) const;
};

class ParameterStore {
 public:
  static absl::StatusOr<ParameterStore> Create(ParameterTable table, DType compute_type, const Stream& stream);

  // The memory that Create allocates for the table's elements in one type: weights, or gradients.
  static ArenaLayout Layout(std::string name, const ParameterTable& table, DType dtype);
  int64_t weight_bytes() const { return weights_.bytes(); }
  int64_t gradient_bytes() const { return gradients_.bytes(); }

  const ParameterTable& table() const { return table_; }
  absl::Span<const ParameterSpec> specs() const { return table_.specs; }
  DType compute_type() const { return compute_type_; }
  // Of the device that the parameters lie on.
  const Stream& stream() const { return stream_; }

  // Views of one parameter; local shape.
  Tensor Weight(int spec) const { return View(weights_, compute_type_, spec); }
  Tensor Gradient(int spec) const { return View(gradients_, AccumulationType(compute_type_), spec); }
  // By name. The name must exist: names are the program's own.
  Tensor Weight(std::string_view name) const { return Weight(Index(name)); }
  Tensor Gradient(std::string_view name) const { return Gradient(Index(name)); }
  // `rows` rows beginning with the parameter `name`: adjacent parameters seen as one matrix (q, k and v; gate and up).
  Tensor PackedWeight(std::string_view name, int64_t rows) const;
  Tensor PackedGradient(std::string_view name, int64_t rows) const;

  // The whole arenas, [1, table().size].
  Tensor weights() const { return weights_.At(0, compute_type_, 1, table_.size); }
  Tensor gradients() const { return gradients_.At(0, AccumulationType(compute_type_), 1, table_.size); }

  // Initial weights: element e of a parameter is a function of (seed, name, e in the whole parameter) alone.
  absl::Status Initialize(uint64_t seed);

 private:
  int Index(std::string_view name) const;
  Tensor View(const Arena& arena, DType dtype, int spec) const;

  ParameterTable table_;
  DType compute_type_ = DType::kFloat32;
  Stream stream_;
  Arena weights_;
  Arena gradients_;
};

// Writes the initial values of elements [begin, end) of the flat arena to `out`, fp32, fp64 or bf16 [1, end - begin] on
// the stream's device; zero in the padding. The optimizer's master weights start from it unrounded.
absl::Status InitialValues(const ParameterTable& table, uint64_t seed, Range elements, const Tensor& out,
                           const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_PARAMETERS_H_
