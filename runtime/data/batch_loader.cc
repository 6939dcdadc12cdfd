#include "runtime/data/batch_loader.h"

#include <algorithm>
#include <utility>

#include "runtime/data/sample_order.h"
#include "runtime/status.h"

namespace isthmus {

BatchLoader::BatchLoader(SampleSet samples, const BatchLoaderOptions& options)
    : samples_(std::move(samples)), options_(options) {
  std::sort(options_.pass_over.begin(), options_.pass_over.end());
  thread_ = std::thread([this] { Run(); });
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

absl::Status BatchLoader::Fill(int64_t number, Batch& batch) const {
  const int64_t length = samples_.dataset->sequence_length();
  const int64_t sequences = options_.sequences / options_.data_ranks;
  batch.number = number;
  batch.id_values.resize(static_cast<size_t>(sequences * length));
  batch.target_values.resize(batch.id_values.size());
  std::vector<int32_t> sample(static_cast<size_t>(length) + 1);
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t position = (number - 1) * options_.sequences + options_.data_rank * sequences + i;
    const auto count = static_cast<uint64_t>(samples_.count), place = static_cast<uint64_t>(position);
    const uint64_t index = options_.shuffle ? SampleAt(place, count, options_.seed) : place % count;
    ISTHMUS_RETURN_IF_ERROR(
        samples_.dataset->Read(samples_.Sample(static_cast<int64_t>(index)), absl::MakeSpan(sample)));
    std::copy(sample.begin(), sample.end() - 1, batch.id_values.begin() + i * length);
    std::copy(sample.begin() + 1, sample.end(), batch.target_values.begin() + i * length);
  }
  return absl::OkStatus();
}

void BatchLoader::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (int64_t number = options_.first_batch;; ++number) {
    if (std::binary_search(options_.pass_over.begin(), options_.pass_over.end(), number)) continue;
    changed_.wait(lock, [this] { return stopping_ || static_cast<int64_t>(ready_.size()) < options_.prefetch; });
    if (stopping_) return;
    Batch batch;
    if (!spare_.empty()) {
      batch = std::move(spare_.front());
      spare_.pop_front();
    }
    lock.unlock();
    const absl::Status status = Fill(number, batch);
    lock.lock();
    if (status.ok()) {
      ready_.push_back(std::move(batch));
    } else {
      status_ = status;
    }
    changed_.notify_all();
    if (!status.ok()) return;
  }
}

absl::StatusOr<Batch> BatchLoader::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty() || !status_.ok(); });
  if (ready_.empty()) return status_;
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return batch;
}

void BatchLoader::Recycle(Batch batch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  spare_.push_back(std::move(batch));
}

}  // namespace isthmus
