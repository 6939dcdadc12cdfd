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
        if (spec.init_values != nullptr) {
          write(e, (*spec.init_values)[static_cast<size_t>(index)]);
          continue;
        }
        const double normal = spec.init_std == 0 ? 0
                                                 : Philox::Normal(seed, RandomPurpose::kInitialWeights, stream,
                                                                  static_cast<uint64_t>(index));
        write(e, spec.init_mean + spec.init_std * normal);
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

std::vector<Rectangle> RectanglesOf(const ParameterSpec& spec, Range elements) {
  const int64_t width = spec.local_columns(), end = elements.end - spec.offset;
  const bool by_columns = spec.sharding == Sharding::kColumns;
  const int64_t first_row = by_columns ? 0 : spec.shard.begin, first_column = by_columns ? spec.shard.begin : 0;
  std::vector<Rectangle> parts;
  for (int64_t at = elements.begin - spec.offset; at < end;) {
    const int64_t row = at / width, column = at % width;
    const bool whole_rows = column == 0 && end - at >= width;
    const int64_t rows = whole_rows ? (end - at) / width : 1;
    const int64_t columns = whole_rows ? width : std::min(width - column, end - at);
    parts.push_back({{first_row + row, first_row + row + rows},
                     {first_column + column, first_column + column + columns},
                     at + spec.offset - elements.begin});
    at += rows * columns;
  }
  return parts;
}

int64_t ParameterTable::GlobalCount() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs) count += spec.rows * spec.columns;
  return count;
}

Range ParameterTable::ElementsOf(ParameterHandle handle) const {
  const ParameterSpec& first = specs[static_cast<size_t>(handle.first)];
  const ParameterSpec& last = specs[static_cast<size_t>(handle.first + handle.count - 1)];
  return {first.offset, last.offset + last.local_size()};
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

absl::StatusOr<ParameterStore> ParameterStore::Create(ParameterTable table, DType compute_type, const Stream& stream,
                                                      bool gradients) {
  ParameterStore store;
  store.table_ = std::move(table);
  store.compute_type_ = compute_type;
  store.stream_ = stream;
  const int64_t weight_bytes = Layout("weights", store.table_, compute_type).bytes();
  ISTHMUS_ASSIGN_OR_RETURN(store.weights_, Arena::Allocate("weights", weight_bytes, stream));
  if (!gradients) return store;
  const int64_t gradient_bytes = Layout("gradients", store.table_, AccumulationType(compute_type)).bytes();
  ISTHMUS_ASSIGN_OR_RETURN(store.gradients_, Arena::Allocate("gradients", gradient_bytes, stream));
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
  if (arena.bytes() == 0) return Tensor(nullptr, dtype, spec.local_rows(), spec.local_columns());
  return arena.At(spec.offset * SizeOf(dtype), dtype, spec.local_rows(), spec.local_columns());
}

Tensor ParameterStore::Packed(const Tensor& first, ParameterHandle handle) const {
  int64_t rows = 0;
  for (int i = handle.first; i < handle.first + handle.count; ++i) {
    rows += table_.specs[static_cast<size_t>(i)].local_rows();
  }
  return Tensor(first.data, first.dtype, rows, first.columns);
}

Tensor ParameterStore::GradientsAt(Range elements) const {
  const DType type = AccumulationType(compute_type_);
  if (gradients_.bytes() == 0) return Tensor(nullptr, type, 1, elements.size());
  return gradients_.At(elements.begin * SizeOf(type), type, 1, elements.size());
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
