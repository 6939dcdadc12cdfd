#include "model/decomposition/spectrum_finder.h"

#include <chrono>

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

bool SpectrumFinder::busy() const {
  return finding_.valid() && finding_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

absl::Status SpectrumFinder::Begin(const Tensor& gram, int64_t step, const Stream& stream) {
  Collect();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor copy, gram_.Room(DType::kFloat64, gram.rows, gram.columns, stream));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(gram, copy, stream));
  begun_ = step;
  wanted_ = true;
  finding_ = std::async(std::launch::async, find_, copy);
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
  if (wait ? wanted_ : !busy()) Collect();
  return latest_;
}

void SpectrumFinder::Collect() {
  if (!finding_.valid()) return;
  std::vector<double> values = finding_.get();
  if (wanted_) latest_ = {begun_, std::move(values)};
  wanted_ = false;
}

}  // namespace isthmus
