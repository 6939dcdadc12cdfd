// Batches of a training run, read ahead on a thread of their own.
#ifndef ISTHMUS_RUNTIME_DATA_BATCH_LOADER_H_
#define ISTHMUS_RUNTIME_DATA_BATCH_LOADER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/data/sample_source.h"
#include "runtime/tensor.h"

namespace isthmus {

// One data rank's part of a batch, on which one step trains.
struct Batch {
  int64_t number = 0;  // from 1 in the order of the data
  std::vector<int32_t> id_values, target_values;

  // int32 [1, sequences · T].
  Tensor ids() { return Tensor(id_values.data(), DType::kInt32, 1, static_cast<int64_t>(id_values.size())); }
  Tensor targets() {
    return Tensor(target_values.data(), DType::kInt32, 1, static_cast<int64_t>(target_values.size()));
  }
};

struct BatchLoaderOptions {
  int64_t sequences = 1;  // of a step, over all data ranks; a multiple of data_ranks
  int data_rank = 0;
  int data_ranks = 1;
  uint64_t seed = 0;
  bool shuffle = true;             // else samples in the order of the set
  int64_t first_batch = 1;         // the position in the data is this alone: (first_batch - 1) · sequences samples
  std::vector<int64_t> pass_over;  // numbers of batches that are left out
  int64_t prefetch = 4;            // batches read ahead
};

// If no thread can be started, nothing is read ahead: Next reads the batch itself.
class BatchLoader {
 public:
  // Batch n holds the samples at places [(n - 1) · sequences, n · sequences) of the endless shuffled order (SampleAt).
  // The data rank takes its contiguous part. The samples wrap around at the end of the set.
  BatchLoader(SampleSet samples, const BatchLoaderOptions& options);
  ~BatchLoader();

  // True if a thread reads ahead.
  bool reads_ahead() const { return thread_.joinable(); }
  // Returns the next batch; waits while it is being read. Errors: those of reading a sample; ResourceExhausted if
  // memory runs out.
  absl::StatusOr<Batch> Next();
  // Gives a batch's memory back, to be filled again.
  void Recycle(Batch batch);

 private:
  absl::Status Fill(int64_t number, Batch& batch) const;
  // Returns the first number from `number` on that is not passed over.
  int64_t Wanted(int64_t number) const;
  Batch TakeSpare();
  absl::StatusOr<Batch> ReadNow();
  absl::Status Run();  // the thread's

  SampleSet samples_;
  BatchLoaderOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_, spare_;
  absl::Status status_;
  bool stopping_ = false;
  int64_t next_ = 1;  // number of the batch to read next
  std::thread thread_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_BATCH_LOADER_H_
