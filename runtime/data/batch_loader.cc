#include "runtime/data/batch_loader.h"

#include <algorithm>
#include <utility>

#include "runtime/caught.h"
#include "runtime/data/sample_order.h"
#include "runtime/status.h"

namespace isthmus {

BatchLoader::BatchLoader(SampleSet samples, const BatchLoaderOptions& options)
    : samples_(std::move(samples)), options_(options) {
  std::sort(options_.pass_over.begin(), options_.pass_over.end());
  next_ = Wanted(options_.first_batch);
  Caught([this] {
    thread_ = std::thread([this] {
      const absl::Status status = Caught([this] { return Run(); });
      const std::lock_guard<std::mutex> lock(mutex_);
      status_ = status;
      changed_.notify_all();
    });
    return absl::OkStatus();
  }).IgnoreError();
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

absl::Status BatchLoader::Fill(int64_t number, Batch& batch) const {
  const int64_t length = samples_.source->sequence_length();
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
        samples_.source->Read(samples_.Sample(static_cast<int64_t>(index)), absl::MakeSpan(sample)));
    std::copy(sample.begin(), sample.end() - 1, batch.id_values.begin() + i * length);
    std::copy(sample.begin() + 1, sample.end(), batch.target_values.begin() + i * length);
  }
  return absl::OkStatus();
}

int64_t BatchLoader::Wanted(int64_t number) const {
  while (std::binary_search(options_.pass_over.begin(), options_.pass_over.end(), number)) ++number;
  return number;
}

absl::Status BatchLoader::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;; next_ = Wanted(next_ + 1)) {
    // A full queue is filled again when half of it is left: to wake up for each batch would cost more than to read it.
    if (static_cast<int64_t>(ready_.size()) >= options_.prefetch) {
      changed_.wait(lock, [this] { return stopping_ || static_cast<int64_t>(ready_.size()) <= options_.prefetch / 2; });
    }
    if (stopping_) return absl::OkStatus();
    Batch batch = TakeSpare();
    lock.unlock();
    ISTHMUS_RETURN_IF_ERROR(Fill(next_, batch));
    lock.lock();
    ready_.push_back(std::move(batch));
    changed_.notify_all();
  }
}

Batch BatchLoader::TakeSpare() {
  if (spare_.empty()) return {};
  Batch batch = std::move(spare_.front());
  spare_.pop_front();
  return batch;
}

absl::StatusOr<Batch> BatchLoader::ReadNow() {
  Batch batch = TakeSpare();
  ISTHMUS_RETURN_IF_ERROR(Caught([&] { return Fill(next_, batch); }));
  next_ = Wanted(next_ + 1);
  return batch;
}

absl::StatusOr<Batch> BatchLoader::Next() {
  if (!reads_ahead()) return ReadNow();
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty() || !status_.ok(); });
  if (ready_.empty()) return status_;
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  if (static_cast<int64_t>(ready_.size()) <= options_.prefetch / 2) changed_.notify_all();
  return batch;
}

void BatchLoader::Recycle(Batch batch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  spare_.push_back(std::move(batch));
}

}  // namespace isthmus
