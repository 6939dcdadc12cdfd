// Packs many small sums over ranks into one collective.
#ifndef ISTHMUS_MODEL_MEASURE_PACKED_SUM_H_
#define ISTHMUS_MODEL_MEASURE_PACKED_SUM_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "model/measure/histogram.h"
#include "parallel/communicator.h"
#include "runtime/status.h"

namespace isthmus {

// The numbers must stay where they are until Reduce. Every rank adds the same numbers in the same order.
class PackedSum {
 public:
  void Add(double& number) { numbers_.push_back(&number); }
  void Add(absl::Span<double> numbers) {
    for (double& number : numbers) Add(number);
  }
  void Add(Histogram& histogram) {
    Add(histogram.sum);
    for (int64_t& count : histogram.counts) counts_.push_back(&count);
  }

  // Replaces every number by its sum over the ranks of the group. Collective.
  absl::Status Reduce(Communicator& group) {
    std::vector<double> packed;
    packed.reserve(numbers_.size() + counts_.size());
    for (const double* number : numbers_) packed.push_back(*number);
    for (const int64_t* count : counts_) packed.push_back(static_cast<double>(*count));
    ISTHMUS_RETURN_IF_ERROR(group.AllReduceNumbers(absl::MakeSpan(packed)));
    for (size_t i = 0; i < numbers_.size(); ++i) *numbers_[i] = packed[i];
    for (size_t i = 0; i < counts_.size(); ++i) *counts_[i] = static_cast<int64_t>(packed[numbers_.size() + i]);
    return absl::OkStatus();
  }

 private:
  std::vector<double*> numbers_;
  std::vector<int64_t*> counts_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_PACKED_SUM_H_
