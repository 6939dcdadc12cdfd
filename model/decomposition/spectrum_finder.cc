#include "model/decomposition/spectrum_finder.h"

#include <absl/algorithm/container.h>

#include <chrono>
#include <utility>

#include "model/decomposition/head_projection.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kStepsBetween = 10;

int64_t TenOf(int64_t step) { return (step - 1) / kStepsBetween; }

}  // namespace

SpectrumFinder::SpectrumFinder()
    : SpectrumFinder([](const Tensor& gram) {
        const Eigen::VectorXd values = SingularValues(gram);
        return std::vector<double>(values.begin(), values.end());
      }) {}

bool SpectrumFinder::Due(int64_t step) const { return begun_ == 0 || TenOf(begun_) != TenOf(step); }

bool SpectrumFinder::Finding::busy() const {
  return values.valid() && values.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

bool SpectrumFinder::busy() const {
  return finding_->busy() || absl::c_any_of(dropped_, [](const auto& finding) { return finding->busy(); });
}

absl::Status SpectrumFinder::Begin(const Tensor& gram, int64_t step, const Stream& stream) {
  std::erase_if(dropped_, [](const auto& finding) { return !finding->busy(); });
  if (finding_->busy()) dropped_.push_back(std::exchange(finding_, std::make_unique<Finding>()));
  Collect();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor copy, finding_->gram.Room(DType::kFloat64, gram.rows, gram.columns, stream));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(gram, copy, stream));
  begun_ = step;
  wanted_ = true;
  finding_->values = std::async(std::launch::async, find_, copy);
  return absl::OkStatus();
}

void SpectrumFinder::Set(int64_t step, std::vector<double> values) {
  begun_ = step;
  wanted_ = false;
  latest_ = {step, std::move(values)};
}

void SpectrumFinder::Rewind(int64_t step) {
  if (begun_ < step) return;
  begun_ = 0;
  wanted_ = false;
  latest_ = {};
}

const SpectrumFinder::Found& SpectrumFinder::Latest(bool wait) {
  if (wait ? wanted_ : !finding_->busy()) Collect();
  return latest_;
}

void SpectrumFinder::Collect() {
  if (!finding_->values.valid()) return;
  std::vector<double> values = finding_->values.get();
  if (wanted_) latest_ = {begun_, std::move(values)};
  wanted_ = false;
}

}  // namespace isthmus
