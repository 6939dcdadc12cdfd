#include "model/shared_tables.h"

#include <utility>

#include "runtime/status.h"

namespace isthmus {

Tensor SharedTables::Place(const std::string& name, DType type, int64_t rows, int64_t columns, TensorPlacer& placer,
                           Fill fill) {
  const auto found = tables_.find(name);
  if (found != tables_.end()) return found->second.tensor;
  const Tensor tensor = placer.Place(name, type, rows, columns);
  tables_.emplace(name, Table{tensor, std::move(fill)});
  return tensor;
}

absl::Status SharedTables::FillAll(Stream& stream) const {
  if (stream.dry()) return absl::OkStatus();  // the host would compute what nobody reads
  for (const auto& [name, table] : tables_) ISTHMUS_RETURN_IF_ERROR(table.fill(table.tensor, stream));
  return absl::OkStatus();
}

}  // namespace isthmus
