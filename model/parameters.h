// The model's parameters: their names, shapes and shards, and the arenas that hold them and their gradients.
//
// All parameters of a rank lie one behind another in one flat arena, in the order of the forward pass. Gradients lie at
// the same element offsets of a second arena, in fp32 (fp64 with fp64). The gradients of a segment's parameters are
// complete at the same moment of the backward pass. The embedding is one, each layer, and the final norm with the head.
// Parts of the model declare parameters (model/parameter_builder.h). Matrices are [out, in].
#ifndef ISTHMUS_MODEL_PARAMETERS_H_
#define ISTHMUS_MODEL_PARAMETERS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/shard.h"
#include "runtime/arena.h"
#include "runtime/tensor.h"

namespace isthmus {

// Which dimension is cut over the tensor ranks.
enum class Sharding { kReplicated, kRows, kColumns };

// The purpose of a parameter.
enum class ParameterRole { kEmbedding, kNorm, kMixer, kFeedForward, kHead };

// The part of a replicated parameter's gradient that one rank's backward pass finds. All but kWhole are summed over the
// tensor ranks.
enum class GradientPart {
  kWhole,
  kOfLocalTokens,  // the rank's own tokens: a part under sequence parallelism, else the whole
  kOfShard,        // the rank's own features or heads
};

// A parameter, or several packed ones seen as one matrix.
struct ParameterHandle {
  int first = -1;  // index into ParameterTable::specs
  int count = 1;
};

struct ParameterSpec {
  std::string name;
  std::string foreign_name;  // in other programs' files; empty: none
  ParameterRole role = ParameterRole::kMixer;
  int64_t rows = 0;  // of the whole parameter
  int64_t columns = 0;
  Sharding sharding = Sharding::kReplicated;
  Range shard;                         // rows or columns of this tensor rank; with kReplicated all rows
  double init_mean = 0, init_std = 0;  // of the normal initial values
  // The initial values of the whole parameter, row by row, in place of normal ones. Null: none.
  std::shared_ptr<const std::vector<double>> init_values;
  bool decay = true;        // weight decay applies (matrices)
  bool multiplies = false;  // each token is multiplied by the matrix once
  GradientPart gradient = GradientPart::kWhole;
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

// A rectangle of the whole parameter whose elements a run of local elements holds, row by row, from `offset` on.
struct Rectangle {
  Range rows, columns;
  int64_t offset = 0;
};
// Cuts a run of a parameter's elements, given in the arena, into at most three rectangles: the end of a row, whole rows,
// the start of one.
std::vector<Rectangle> RectanglesOf(const ParameterSpec& spec, Range elements);

// The table of parameters of one rank, without memory: what `plan` counts and what the store allocates.
struct ParameterTable {
  std::vector<ParameterSpec> specs;
  std::vector<Range> segments;  // element ranges, in arena order; each a multiple of 16 · data_ranks elements
  int64_t size = 0;             // elements of the arena, with padding

  // Parameters of the whole model, not only of this rank.
  int64_t GlobalCount() const;
  // Elements in the arenas.
  Range ElementsOf(ParameterHandle handle) const;
  // Index into specs, -1 when there is none of that name.
  int Find(std::string_view name) const;
};

class ParameterStore {
 public:
  // Without gradients their memory is not allocated, and views of them are undefined.
  static absl::StatusOr<ParameterStore> Create(ParameterTable table, DType compute_type, const Stream& stream,
                                               bool gradients = true);

  // The memory that Create allocates for the table's elements in one type: weights, or gradients.
  static ArenaLayout Layout(std::string name, const ParameterTable& table, DType dtype);
  int64_t weight_bytes() const { return weights_.bytes(); }
  int64_t gradient_bytes() const { return gradients_.bytes(); }

  const ParameterTable& table() const { return table_; }
  absl::Span<const ParameterSpec> specs() const { return table_.specs; }
  DType compute_type() const { return compute_type_; }
  // The stream of the device that the parameters lie on.
  const Stream& stream() const { return stream_; }

  // Views of one parameter; local shape.
  Tensor Weight(int spec) const { return View(weights_, compute_type_, spec); }
  Tensor Gradient(int spec) const { return View(gradients_, AccumulationType(compute_type_), spec); }
  // By name. The name must exist: names are the program's own.
  Tensor Weight(std::string_view name) const { return Weight(Index(name)); }
  Tensor Gradient(std::string_view name) const { return Gradient(Index(name)); }
  Tensor Weight(ParameterHandle handle) const { return Packed(Weight(handle.first), handle); }
  Tensor Gradient(ParameterHandle handle) const { return Packed(Gradient(handle.first), handle); }

  // The whole arenas, [1, table().size].
  Tensor weights() const { return weights_.At(0, compute_type_, 1, table_.size); }
  Tensor gradients() const { return GradientsAt({0, table_.size}); }
  // Elements of the gradients' arena as [1, elements.size()].
  Tensor GradientsAt(Range elements) const;

  // Initial weights: element e of a parameter is a function of (seed, name, e in the whole parameter) alone, or one of
  // its init_values.
  absl::Status Initialize(uint64_t seed);

 private:
  int Index(std::string_view name) const;
  Tensor View(const Arena& arena, DType dtype, int spec) const;
  Tensor Packed(const Tensor& first, ParameterHandle handle) const;

  ParameterTable table_;
  DType compute_type_ = DType::kFloat32;
  Stream stream_;
  Arena weights_;
  Arena gradients_;
};

// Writes the initial values of elements [begin, end) of the flat arena to `out`, which is fp32, fp64 or bf16
// [1, end - begin] on the stream's device. The padding is zero. The optimizer's master weights start from it unrounded.
absl::Status InitialValues(const ParameterTable& table, uint64_t seed, Range elements, const Tensor& out,
                           const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_PARAMETERS_H_
