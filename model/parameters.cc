#include "model/parameters.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "runtime/device.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Parameters begin at multiples of this many elements, so that rows of the kernels' vectors are aligned; members of a
// packed group follow one another without a gap.
constexpr int64_t kAlignment = 32;

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

class TableBuilder {
 public:
  TableBuilder(const TensorShard& shard, int data_ranks) : shard_(shard), data_ranks_(data_ranks) {}

  void Replicated(std::string name, int64_t rows, int64_t columns, double init_std) {
    Append(std::move(name), rows, columns, Sharding::kReplicated, {0, rows}, init_std, false);
  }
  void Norm(std::string name, int64_t width) {
    Append(std::move(name), 1, width, Sharding::kReplicated, {0, 1}, 0, false);
    table_.specs.back().decay = false;
  }
  void Rows(std::string name, int64_t rows, int64_t columns, Range range, double init_std, bool packed = false) {
    Append(std::move(name), rows, columns, Sharding::kRows, range, init_std, packed);
  }
  void Columns(std::string name, int64_t rows, int64_t columns, Range range, double init_std) {
    Append(std::move(name), rows, columns, Sharding::kColumns, range, init_std, false);
  }

  void EndSegment() {
    const int64_t begin = table_.segments.empty() ? 0 : table_.segments.back().end;
    table_.size = begin + RoundUp(table_.size - begin, int64_t{kAlignment} * data_ranks_);
    table_.segments.push_back({begin, table_.size});
  }

  ParameterTable Take() { return std::move(table_); }

 private:
  void Append(std::string name, int64_t rows, int64_t columns, Sharding sharding, Range range, double init_std,
              bool packed) {
    ParameterSpec spec;
    spec.name = std::move(name);
    spec.rows = rows;
    spec.columns = columns;
    spec.sharding = shard_.ranks == 1 ? Sharding::kReplicated : sharding;
    spec.shard = shard_.ranks == 1 ? Range{0, rows} : range;
    spec.init_std = init_std;
    spec.segment = static_cast<int>(table_.segments.size());
    spec.offset = packed ? table_.size : RoundUp(table_.size, kAlignment);
    table_.size = spec.offset + spec.local_size();
    table_.specs.push_back(std::move(spec));
  }

  const TensorShard& shard_;
  int data_ranks_;
  ParameterTable table_;
};

// FNV-1a of a parameter's name: which stream of random numbers its initial values come from.
uint32_t StreamOf(std::string_view name) {
  uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

// Calls write(element, value) for the elements of `range` that belong to parameters.
template <typename Write>
void ForInitialValues(const ParameterTable& table, uint64_t seed, Range range, const Write& write) {
  for (const ParameterSpec& spec : table.specs) {
    const int64_t begin = std::max(range.begin, spec.offset);
    const int64_t end = std::min(range.end, spec.offset + spec.local_size());
    const uint32_t stream = StreamOf(spec.name);
    ParallelFor(end - begin, 4096, [&](int64_t from, int64_t to, int) {
      for (int64_t e = begin + from; e < begin + to; ++e) {
        const int64_t local = e - spec.offset;
        const int64_t index = spec.GlobalIndex(local / spec.local_columns(), local % spec.local_columns());
        write(e, spec.init_std == 0 ? 1.0
                                    : spec.init_std * Philox::Normal(seed, RandomPurpose::kInitialWeights, stream,
                                                                     static_cast<uint64_t>(index)));
      }
    });
  }
}

// Elements that go to a GPU at once.
constexpr int64_t kStagedElements = int64_t{1} << 24;

// To host memory, fp32, fp64 or bf16 [1, elements].
void WriteInitialValues(const ParameterTable& table, uint64_t seed, Range elements, const Tensor& out) {
  std::memset(out.data, 0, static_cast<size_t>(out.bytes()));
  ForInitialValues(table, seed, elements, [&](int64_t element, double value) {
    const int64_t i = element - elements.begin;
    switch (out.dtype) {
      case DType::kFloat64:
        out.As<double>()[i] = value;
        break;
      case DType::kBFloat16:
        out.As<BFloat16>()[i] = BFloat16(static_cast<float>(value));
        break;
      default:
        out.As<float>()[i] = static_cast<float>(value);
        break;
    }
  });
}

}  // namespace

ParameterTable ParameterTable::Build(const ModelShape& shape, const TensorShard& shard, int data_ranks) {
  TableBuilder builder(shard, data_ranks);
  const int64_t width = shape.width;
  const double std_in = shape.init_std;
  // Two branches per layer add to the residual stream: their last projections start smaller (GPT-2).
  const double std_out = shape.init_std / std::sqrt(2.0 * static_cast<double>(shape.layers));
  const auto features = [&](Range heads) { return Range{heads.begin * shape.head_dim, heads.end * shape.head_dim}; };
  const int64_t query_rows = shape.heads * shape.head_dim, kv_rows = shape.kv_heads * shape.head_dim;

  builder.Rows("embedding.weight", shape.vocabulary, width, shard.vocabulary, std_in);
  builder.EndSegment();
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::string prefix = absl::StrCat("layers.", layer, ".");
    const std::string attention = prefix + "attention.", feed_forward = prefix + "feed_forward.";
    builder.Norm(prefix + "attention_norm.weight", width);
    builder.Norm(prefix + "feed_forward_norm.weight", width);
    builder.Rows(attention + "q_proj.weight", query_rows, width, features(shard.heads), std_in);
    builder.Rows(attention + "k_proj.weight", kv_rows, width, features(shard.kv_heads), std_in, true);
    builder.Rows(attention + "v_proj.weight", kv_rows, width, features(shard.kv_heads), std_in, true);
    builder.Columns(attention + "o_proj.weight", width, query_rows, features(shard.heads), std_out);
    builder.Rows(feed_forward + "gate_proj.weight", shape.feed_forward, width, shard.feed_forward, std_in);
    builder.Rows(feed_forward + "up_proj.weight", shape.feed_forward, width, shard.feed_forward, std_in, true);
    builder.Columns(feed_forward + "down_proj.weight", width, shape.feed_forward, shard.feed_forward, std_out);
    builder.EndSegment();
  }
  builder.Norm("final_norm.weight", width);
  if (!shape.tied && shape.head_rank == 0) {
    builder.Rows("head.weight", shape.vocabulary, width, shard.vocabulary, std_in);
  } else if (!shape.tied) {
    // The entries of the product W = U E then have the deviation init_std, as those of a head of full width.
    builder.Replicated("head.down.weight", shape.head_rank, width, 1.0 / std::sqrt(static_cast<double>(width)));
    builder.Rows("head.up.weight", shape.vocabulary, shape.head_rank, shard.vocabulary,
                 std_in * std::sqrt(static_cast<double>(width) / static_cast<double>(shape.head_rank)));
  }
  builder.EndSegment();
  return builder.Take();
}

int64_t ParameterTable::GlobalCount() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs) count += spec.rows * spec.columns;
  return count;
}

Range ParameterTable::HeadElements() const {
  int index = Find("head.weight");
  if (index < 0) index = Find("head.up.weight");
  if (index < 0) index = Find("embedding.weight");
  const ParameterSpec& spec = specs[static_cast<size_t>(index)];
  return {spec.offset, spec.offset + spec.local_size()};
}

int ParameterTable::Find(std::string_view name) const {
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

ArenaLayout ParameterStore::Layout(std::string name, const ParameterTable& table, DType dtype) {
  ArenaLayout layout;
  layout.Add(std::move(name), dtype, 1, table.size);
  return layout;
}

absl::StatusOr<ParameterStore> ParameterStore::Create(ParameterTable table, DType compute_type, const Stream& stream) {
  ParameterStore store;
  store.table_ = std::move(table);
  store.compute_type_ = compute_type;
  store.stream_ = stream;
  const int64_t weight_bytes = Layout("weights", store.table_, compute_type).bytes();
  const int64_t gradient_bytes = Layout("gradients", store.table_, AccumulationType(compute_type)).bytes();
  ISTHMUS_ASSIGN_OR_RETURN(store.weights_, Arena::Allocate("weights", weight_bytes, stream.device()));
  ISTHMUS_ASSIGN_OR_RETURN(store.gradients_, Arena::Allocate("gradients", gradient_bytes, stream.device()));
  return store;
}

int ParameterStore::Index(std::string_view name) const {
  const int index = table_.Find(name);
  // The names come from the layers themselves: another one is a fault of the program, not of its input.
  if (index < 0) std::abort();
  return index;
}

Tensor ParameterStore::View(const Arena& arena, DType dtype, int index) const {
  const ParameterSpec& spec = table_.specs[static_cast<size_t>(index)];
  return arena.At(spec.offset * SizeOf(dtype), dtype, spec.local_rows(), spec.local_columns());
}

Tensor ParameterStore::PackedWeight(std::string_view name, int64_t rows) const {
  const Tensor first = Weight(name);
  return Tensor(first.data, first.dtype, rows, first.columns);
}

Tensor ParameterStore::PackedGradient(std::string_view name, int64_t rows) const {
  const Tensor first = Gradient(name);
  return Tensor(first.data, first.dtype, rows, first.columns);
}

absl::Status InitialValues(const ParameterTable& table, uint64_t seed, Range elements, const Tensor& out,
                           const Stream& stream) {
  if (stream.device() == Device::kCpu) {
    WriteInitialValues(table, seed, elements, out);
    return absl::OkStatus();
  }
  std::vector<char> staged(static_cast<size_t>(std::min(elements.size(), kStagedElements) * SizeOf(out.dtype)));
  for (int64_t begin = elements.begin; begin < elements.end; begin += kStagedElements) {
    const int64_t count = std::min(kStagedElements, elements.end - begin);
    const Tensor host(staged.data(), out.dtype, 1, count);
    WriteInitialValues(table, seed, {begin, begin + count}, host);
    ISTHMUS_RETURN_IF_ERROR(CopyFromHost(host, out.ColumnSlice(begin - elements.begin, count), stream));
  }
  return absl::OkStatus();
}

absl::Status ParameterStore::Initialize(uint64_t seed) {
  return InitialValues(table_, seed, {0, table_.size}, weights(), stream_);
}

}  // namespace isthmus
