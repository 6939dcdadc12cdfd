#include "model/parameter_builder.h"

#include <absl/strings/str_cat.h>

#include <utility>

namespace isthmus {
namespace {

// Parameters begin at multiples of this many elements, so that rows of the kernels' vectors are aligned.
constexpr int64_t kAlignment = 32;

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

ParameterBuilder::ParameterBuilder(int tensor_ranks, int data_ranks, ForeignName foreign_name)
    : tensor_ranks_(tensor_ranks), data_ranks_(data_ranks), foreign_name_(std::move(foreign_name)) {}

ParameterHandle ParameterBuilder::AddPacked(const std::vector<ParameterDeclaration>& declarations) {
  const ParameterHandle handle = {static_cast<int>(table_.specs.size()), static_cast<int>(declarations.size())};
  for (const ParameterDeclaration& declaration : declarations) {
    Append(declaration, /*packed=*/table_.specs.size() > static_cast<size_t>(handle.first));
  }
  return handle;
}

void ParameterBuilder::Append(const ParameterDeclaration& declaration, bool packed) {
  ParameterSpec spec;
  spec.name = absl::StrCat(prefix_, declaration.name);
  if (foreign_name_) spec.foreign_name = foreign_name_(spec.name);
  spec.role = declaration.role;
  spec.rows = declaration.rows;
  spec.columns = declaration.columns;
  spec.sharding = tensor_ranks_ == 1 ? Sharding::kReplicated : declaration.sharding;
  spec.shard = spec.sharding == Sharding::kReplicated ? Range{0, declaration.rows} : declaration.shard;
  spec.init_mean = declaration.init_mean;
  spec.init_std = declaration.init_std;
  spec.init_values = declaration.init_values;
  spec.decay = declaration.decay;
  spec.multiplies = declaration.multiplies;
  spec.gradient = declaration.gradient;
  spec.segment = static_cast<int>(table_.segments.size());
  spec.offset = packed ? table_.size : RoundUp(table_.size, kAlignment);
  table_.size = spec.offset + spec.local_size();
  table_.specs.push_back(std::move(spec));
}

void ParameterBuilder::EndSegment() {
  const int64_t begin = table_.segments.empty() ? 0 : table_.segments.back().end;
  table_.size = begin + RoundUp(table_.size - begin, kAlignment * data_ranks_);
  table_.segments.push_back({begin, table_.size});
}

}  // namespace isthmus
