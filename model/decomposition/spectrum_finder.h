// The head's singular values, found by a thread of the host beside training: of 4,096 columns it takes some 17 s,
// longer than many steps. They move slowly: a measurement of a wide head reports the newest that are known instead of
// waiting.
#ifndef ISTHMUS_MODEL_DECOMPOSITION_SPECTRUM_FINDER_H_
#define ISTHMUS_MODEL_DECOMPOSITION_SPECTRUM_FINDER_H_

#include <absl/status/status.h>

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <vector>

#include "runtime/host_buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Most columns of a matrix whose eigenvalues take no longer than a step: less than half a second.
inline constexpr int64_t kSpectrumWithinAStep = 1024;

class SpectrumFinder {
 public:
  struct Found {
    int64_t step = 0;            // of whose weights the values are; 0: none are known
    int64_t rank = 0;            // of W then
    std::vector<double> values;  // singular values of W, descending
  };
  using Find = std::function<std::vector<double>(const Tensor& gram)>;

  // Of heads of `width` columns.
  explicit SpectrumFinder(int64_t width);
  // `find` stands in for the computation of singular values.
  SpectrumFinder(int64_t width, Find find);
  // A run that ends does not wait for threads that still work. They go on, and their results are dropped. The memory
  // that they read stays until the process ends.
  ~SpectrumFinder();
  SpectrumFinder(const SpectrumFinder&) = delete;
  SpectrumFinder& operator=(const SpectrumFinder&) = delete;

  // Whether to begin those of `step`: where `fresh`, and at the first measured step of every ten, 1 to 10, 11 to 20 and
  // so on, of a wide head at the first one at which the thread is free. A run that goes on from a checkpoint between
  // two tens thus finds those of the same steps as one that was not interrupted, as long as the thread is done within
  // ten steps.
  bool Wants(int64_t step, bool fresh) const;
  // Whether a thread is at it.
  bool busy() const;
  // Copies `gram` [D, D] fp64, on the stream's device, which has the squares of W's singular values for eigenvalues,
  // and begins; W has full rank. Where a thread is busy, another one does it, and what the busy one finds is dropped.
  // Errors: ResourceExhausted.
  absl::Status Begin(const Tensor& gram, int64_t step, const Stream& stream);
  // What was found otherwise, in place of what is being found.
  void Set(Found found);
  // Forgets what is of `step` and later ones: training has gone back, and their weights are gone.
  void Rewind(int64_t step);

  // Of narrow heads, which take no longer than a step, and where `fresh`, those that were begun last, for which this
  // waits; else the newest that are known.
  const Found& Latest(bool fresh);

 private:
  bool Waits(bool fresh) const;
  void Collect();

  const int64_t width_;
  const Find find_;
  int64_t begun_ = 0;    // step of the latest search or result
  bool wanted_ = false;  // whether the result of `finding_` is wanted
  // The matrix that a thread reads; it is page-locked if a GPU trains. The training thread frees it, because the GPU is
  // its own. Another thread would ask the first GPU, or, when the program ends, one that is shutting down.
  std::unique_ptr<HostBuffer> gram_;
  std::future<std::vector<double>> finding_;
  struct Dropped {
    std::future<std::vector<double>> finding;
    std::unique_ptr<HostBuffer> gram;
  };
  std::vector<Dropped> dropped_;
  Found latest_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_DECOMPOSITION_SPECTRUM_FINDER_H_
