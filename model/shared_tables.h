// Shared tables are constant tensors that several blocks read, such as the angles of rotary positions. Each is placed
// and filled once.
#ifndef ISTHMUS_MODEL_SHARED_TABLES_H_
#define ISTHMUS_MODEL_SHARED_TABLES_H_

#include <absl/status/status.h>

#include <functional>
#include <map>
#include <string>

#include "runtime/arena.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class SharedTables {
 public:
  using Fill = std::function<absl::Status(const Tensor& table, Stream& stream)>;

  // Returns the table of that name, which `placer` places at the first call. Blocks that give the same name must mean
  // the same numbers, so a name states all that they depend on.
  Tensor Place(const std::string& name, DType type, int64_t rows, int64_t columns, TensorPlacer& placer, Fill fill);
  // Fills all tables, which have memory.
  absl::Status FillAll(Stream& stream) const;

 private:
  struct Table {
    Tensor tensor;
    Fill fill;
  };
  std::map<std::string, Table> tables_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_SHARED_TABLES_H_
