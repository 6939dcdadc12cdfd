#include "model/measure/spectrum_finder.h"

#include <absl/algorithm/container.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "model/measure/head_projection.h"
#include "runtime/caught.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kStepsBetween = 10;

int64_t TenOf(int64_t step) { return (step - 1) / kStepsBetween; }

bool Busy(const std::future<std::vector<double>>& finding) {
  return finding.valid() && finding.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

}  // namespace

SpectrumFinder::SpectrumFinder(int64_t width)
    : SpectrumFinder(width, [](const Tensor& gram) {
        const Eigen::VectorXd values = SingularValues(gram);
        return std::vector<double>(values.begin(), values.end());
      }) {}

SpectrumFinder::SpectrumFinder(int64_t width, Find find) : width_(width), find_(std::move(find)) {}

SpectrumFinder::~SpectrumFinder() {
  static std::mutex mutex;
  // This is never destroyed: threads may still read it when the process ends.
  static auto& left = *new std::vector<std::unique_ptr<HostBuffer>>;
  const std::lock_guard lock(mutex);
  dropped_.push_back({std::move(finding_), std::move(gram_)});
  for (Dropped& dropped : dropped_) {
    if (Busy(dropped.finding)) left.push_back(std::move(dropped.gram));
  }
}

bool SpectrumFinder::Waits(bool fresh) const { return fresh || width_ <= kSpectrumWithinAStep; }

bool SpectrumFinder::Wants(int64_t step, bool fresh) const {
  const bool due = begun_ == 0 || TenOf(begun_) != TenOf(step);
  return fresh || (due && (Waits(fresh) || !busy()));
}

bool SpectrumFinder::busy() const {
  return Busy(finding_) || absl::c_any_of(dropped_, [](const Dropped& dropped) { return Busy(dropped.finding); });
}

absl::Status SpectrumFinder::Begin(const Tensor& gram, int64_t step, bool fresh, const Stream& stream) {
  if (stream.dry()) return absl::OkStatus();  // there is no matrix
  if (Busy(finding_)) {
    dropped_.push_back({std::move(finding_), std::move(gram_)});
  }
  Collect();
  if (gram_ == nullptr) gram_ = std::make_unique<HostBuffer>();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor copy, gram_->Room(DType::kFloat64, gram.rows, gram.columns, stream));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(gram, copy, stream));
  // std::async is not used: its future waits for the thread when it is destroyed.
  std::packaged_task<std::vector<double>()> task([find = find_, copy] { return find(copy); });
  std::future<std::vector<double>> finding = task.get_future();
  auto shared = std::make_shared<decltype(task)>(std::move(task));
  const absl::Status started = Caught([&] {
    std::thread([shared, in_the_way = Waits(fresh)] {
      // A nice value is a thread's own on Linux. If all cores are busy the thread leaves most of one to training,
      // unless training waits for it.
      if (!in_the_way) setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 10);
      (*shared)();
    }).detach();
    return absl::OkStatus();
  });
  if (!started.ok()) {
    // Training itself computes the spectra that it would wait for. Others would hold up a step: the next measured step
    // tries again.
    if (!Waits(fresh)) return absl::OkStatus();
    (*shared)();
  }
  finding_ = std::move(finding);
  begun_ = step;
  wanted_ = true;
  return absl::OkStatus();
}

void SpectrumFinder::Set(Found found) {
  begun_ = found.step;
  wanted_ = false;
  latest_ = std::move(found);
}

void SpectrumFinder::Rewind(int64_t step) {
  if (begun_ < step) return;
  wanted_ = false;
  if (latest_.step >= step) latest_ = {};
  begun_ = latest_.step;
}

const SpectrumFinder::Found& SpectrumFinder::Latest(bool fresh) {
  if (Waits(fresh) ? wanted_ : !Busy(finding_)) Collect();
  return latest_;
}

void SpectrumFinder::Collect() {
  std::erase_if(dropped_, [](const Dropped& dropped) { return !Busy(dropped.finding); });
  if (!finding_.valid()) return;
  // If the search failed, for example for lack of memory, the newest known values stay.
  Caught([&] {
    std::vector<double> values = finding_.get();
    if (wanted_) latest_ = {begun_, width_, std::move(values)};
    return absl::OkStatus();
  }).IgnoreError();
  wanted_ = false;
}

}  // namespace isthmus
