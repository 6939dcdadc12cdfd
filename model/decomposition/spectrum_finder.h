// The head's singular values, found by a thread of the host beside training: of 4,096 columns it takes some 17 s,
// longer than many steps. They move slowly, so that a measurement reports the newest that are known instead of waiting.
#ifndef ISTHMUS_MODEL_DECOMPOSITION_SPECTRUM_FINDER_H_
#define ISTHMUS_MODEL_DECOMPOSITION_SPECTRUM_FINDER_H_

#include <absl/status/status.h>

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/host_buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class SpectrumFinder {
 public:
  struct Found {
    int64_t step = 0;            // of whose weights the values are; 0: none are known
    std::vector<double> values;  // singular values of W, descending
  };
  using Find = std::function<std::vector<double>(const Tensor& gram)>;

  SpectrumFinder();
  // `find` stands in for the computation of singular values.
  explicit SpectrumFinder(Find find) : find_(std::move(find)) {}

  // Whether those of `step` should be found: at the first measured step of every ten, 1 to 10, 11 to 20 and so on. A
  // run that goes on from a checkpoint between two tens thus finds those of the same steps as one that was not
  // interrupted, as long as the thread is done within ten steps.
  bool Due(int64_t step) const;
  bool busy() const;
  // Copies `gram` [D, D] fp64, on the stream's device, which has the squares of W's singular values for eigenvalues,
  // and begins. Where a thread is busy, another one does it, and what the busy one finds is dropped. Errors:
  // ResourceExhausted.
  absl::Status Begin(const Tensor& gram, int64_t step, const Stream& stream);
  // What was found otherwise, in place of what is being found.
  void Set(int64_t step, std::vector<double> values);
  // Forgets what is of `step` and later ones: training has gone back, and their weights are gone.
  void Rewind(int64_t step);

  // The newest that are known; with `wait` those that were begun last.
  const Found& Latest(bool wait);

 private:
  struct Finding {
    HostBuffer gram;  // that the thread reads
    std::future<std::vector<double>> values;

    bool busy() const;
  };

  void Collect();

  const Find find_;
  int64_t begun_ = 0;    // the step of what was found or begun last
  bool wanted_ = false;  // whether what `finding_` finds will be
  std::unique_ptr<Finding> finding_ = std::make_unique<Finding>();
  std::vector<std::unique_ptr<Finding>> dropped_;
  Found latest_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_DECOMPOSITION_SPECTRUM_FINDER_H_
