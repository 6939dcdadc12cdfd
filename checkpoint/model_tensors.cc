#include "checkpoint/model_tensors.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

namespace isthmus {
namespace {

// `elements` are in the arena, `run` is their memory.
void AppendRun(const ParameterSpec& spec, proto::TensorRole role, Range elements, const Tensor& run,
               std::vector<TensorPart>& parts) {
  for (const Rectangle& part : RectanglesOf(spec, elements)) {
    const int64_t rows = part.rows.size(), columns = part.columns.size();
    parts.push_back(
        {&spec, role, part.rows, part.columns, run.ColumnSlice(part.offset, rows * columns).Reshape(rows, columns)});
  }
}

void AppendState(const ParameterStore& parameters, const Optimizer::StatePart& state, Range elements,
                 std::vector<TensorPart>& parts) {
  const ParameterSpec& spec = parameters.specs()[static_cast<size_t>(state.spec)];
  for (const auto& [role, all] : state.tensors) {
    AppendRun(spec, role, elements, all.ColumnSlice(elements.begin - state.elements.begin, elements.size()), parts);
  }
}

Range Common(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

Range ElementsOf(const ParameterSpec& spec) { return {spec.offset, spec.offset + spec.local_size()}; }

}  // namespace

std::vector<TensorPart> PartsToSave(const ParameterStore& parameters, const Optimizer* optimizer, const Mesh& mesh) {
  std::vector<TensorPart> parts;
  // Data that all data ranks hold alike are cut evenly among them.
  const Range even = ShardOf(parameters.table().size, mesh.data_ranks(), mesh.data_rank());
  // If all tensor ranks hold a tensor alike, the first one writes its copy.
  const auto mine = [&](const ParameterSpec& spec) {
    return spec.sharding != Sharding::kReplicated || mesh.tensor_rank() == 0;
  };
  for (const ParameterSpec& spec : parameters.specs()) {
    const Range elements = Common(ElementsOf(spec), even);
    if (!mine(spec) || elements.size() <= 0) continue;
    AppendRun(spec, proto::WEIGHT, elements, parameters.weights().ColumnSlice(elements.begin, elements.size()), parts);
  }
  if (optimizer == nullptr) return parts;
  for (const Optimizer::StatePart& state : optimizer->State()) {
    const Range elements = optimizer->sharded() ? state.elements : Common(state.elements, even);
    if (!mine(parameters.specs()[static_cast<size_t>(state.spec)]) || elements.size() <= 0) continue;
    AppendState(parameters, state, elements, parts);
  }
  return parts;
}

std::vector<TensorPart> PartsToLoad(const ParameterStore& parameters, const Optimizer* optimizer) {
  std::vector<TensorPart> parts;
  for (const ParameterSpec& spec : parameters.specs()) {
    const Range elements = ElementsOf(spec);
    AppendRun(spec, proto::WEIGHT, elements, parameters.weights().ColumnSlice(elements.begin, elements.size()), parts);
  }
  if (optimizer == nullptr) return parts;
  for (const Optimizer::StatePart& state : optimizer->State()) {
    AppendState(parameters, state, state.elements, parts);
  }
  return parts;
}

std::string TensorTitle(const std::string& name, proto::TensorRole role) {
  switch (role) {
    case proto::MASTER:
      return absl::StrCat(name, " (master)");
    case proto::FIRST_MOMENT:
      return absl::StrCat(name, " (first moment)");
    case proto::SECOND_MOMENT:
      return absl::StrCat(name, " (second moment)");
    case proto::MAX_SECOND_MOMENT:
      return absl::StrCat(name, " (largest second moment)");
    default:
      return name;
  }
}

}  // namespace isthmus
