// Finds a spectrum by a thread of the host beside training: the head's singular values, or the eigenvalues of the
// sampled tokens' Gram matrix. A matrix of 4,096 columns takes some 17 s, longer than many steps. Spectra move slowly,
// so a step that measures reports the newest known one of a wide matrix instead of waiting.
#ifndef ISTHMUS_MODEL_MEASURE_SPECTRUM_FINDER_H_
#define ISTHMUS_MODEL_MEASURE_SPECTRUM_FINDER_H_

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

// Eigenvalues of a matrix with at most this many columns take no longer than a step: less than half a second.
inline constexpr int64_t kSpectrumWithinAStep = 1024;
// The last step of a run and a dumped step wait for the spectrum of at most this many sampled tokens: half a minute.
inline constexpr int64_t kLargestAwaitedSample = 4096;

class SpectrumFinder {
 public:
  struct Found {
    int64_t step = 0;            // the step that the matrix belongs to; 0: none is known
    int64_t rank = 0;            // the head's rank then; of a sample's matrix its width
    std::vector<double> values;  // what `find` returned: singular values or eigenvalues, descending
  };
  using Find = std::function<std::vector<double>(const Tensor& gram)>;

  // Finds singular values of heads with `width` columns.
  explicit SpectrumFinder(int64_t width);
  // `find` stands in for the computation of singular values.
  SpectrumFinder(int64_t width, Find find);
  // A run that ends does not wait for threads that still work. They go on, and their results are dropped. The memory
  // that they read stays until the process ends.
  ~SpectrumFinder();
  SpectrumFinder(const SpectrumFinder&) = delete;
  SpectrumFinder& operator=(const SpectrumFinder&) = delete;

  // Returns whether to begin with the matrix of `step`. That is so if `fresh`, and at the first measured step of every
  // ten: 1 to 10, 11 to 20 and so on. A wide matrix waits for the first such step at which the thread is free. If the
  // thread is done within ten steps, a run resumed between two tens finds the spectra of the same steps as an
  // uninterrupted one.
  bool Wants(int64_t step, bool fresh) const;
  // Returns whether a thread is at work.
  bool busy() const;
  // Copies `gram` [width, width] fp64, on the stream's device, and begins. A head's `gram` has as eigenvalues the
  // squares of W's singular values, and W has full rank. If a thread is busy, another one does it, and the result of
  // the busy one is dropped. `fresh` means that Latest(true) will wait for the result. Errors: ResourceExhausted.
  absl::Status Begin(const Tensor& gram, int64_t step, bool fresh, const Stream& stream);
  // Takes a result that was found in another way, instead of the one being searched for.
  void Set(Found found);
  // Forgets results of `step` and later ones: training has gone back, and their weights are gone.
  void Rewind(int64_t step);

  // Returns the newest known spectrum. For a narrow matrix, and if `fresh`, it waits for the one that was begun last.
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

#endif  // ISTHMUS_MODEL_MEASURE_SPECTRUM_FINDER_H_
