#include "model/measure/layer_memory.h"

#include <algorithm>

namespace isthmus {
namespace {

// Hands out views of a tensor of one row, one after the other.
class ViewsInOrder {
 public:
  explicit ViewsInOrder(const Tensor& whole) : whole_(whole) {}
  Tensor Next(int64_t rows, int64_t columns) {
    const Tensor part = whole_.ColumnSlice(at_, rows * columns);
    at_ += rows * columns;
    return part.Reshape(rows, columns);
  }

 private:
  Tensor whole_;
  int64_t at_ = 0;
};

}  // namespace

LayerMemory LayerMemory::Place(const LayerShape& shape, TensorPlacer& placer) {
  constexpr DType kWide = DType::kFloat64;
  const int64_t places = shape.layers + 1, width = shape.width, sampled = shape.sampled;
  LayerMemory m;
  m.gradient_squares = placer.Place("measurement.layer_squares", kWide, 1, places);
  m.sums = placer.Place("measurement.stream_sums", kWide, 1, places * (2 * width + 1));
  ViewsInOrder sums(m.sums);
  m.stream.sums = sums.Next(places, width);
  m.stream.unit_sums = sums.Next(places, width);
  m.stream.counts = sums.Next(1, places);
  m.stream.positions = placer.Place("measurement.stream_positions", DType::kInt32, 1, sampled);
  m.stream.sampled = placer.Place("measurement.stream_rows", shape.type, places * sampled, width);
  m.stream.found = placer.Place("measurement.found_rows", shape.type, sampled, width);
  m.stream.squares = placer.Place("measurement.stream_squares", kWide, 2, std::max(shape.tokens, sampled));
  m.centred_rows = placer.Place("measurement.centred_rows", kWide, sampled, width);
  m.centred_sums = placer.Place("measurement.centred_sums", kWide, 1, places * (width + 2));
  ViewsInOrder centred(m.centred_sums);
  m.centred_unit_sums = centred.Next(places, width);
  m.centred_counts = centred.Next(1, places);
  m.centred_squares = centred.Next(1, places);
  m.norms = placer.Place("measurement.stream_norms", kWide, 3, places);
  return m;
}

}  // namespace isthmus
