#include "model/train/non_finite.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

bool HasFloats(const Tensor& tensor) {
  return tensor.defined() && tensor.size() > 0 &&
         (tensor.dtype == DType::kFloat32 || tensor.dtype == DType::kBFloat16 || tensor.dtype == DType::kFloat64);
}

// Returns AddSum or AddSumOfSquares of one tensor.
template <typename Args>
absl::StatusOr<double> SumOf(absl::Status (*add)(const Args&, Stream&), const Tensor& tensor, const Tensor& scratch,
                             Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = scratch}, stream));
  ISTHMUS_RETURN_IF_ERROR(add({.x = tensor, .total = scratch}, stream));
  double sum = 0;
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(scratch, Tensor(&sum, DType::kFloat64, 1, 1), stream));
  return sum;
}

// Returns a lower number for an earlier stage of a step.
int StageOf(const NonFiniteTensors& found) {
  if (!found.weight.empty()) return 0;
  if (!found.activation.empty()) return 1;
  if (found.loss) return 2;
  return found.gradient.empty() ? 4 : 3;
}

std::string Describe(const NonFiniteTensors& found) {
  std::vector<std::string> parts;
  if (!found.weight.empty()) parts.push_back("weight " + found.weight);
  if (!found.activation.empty()) parts.push_back("activation " + found.activation);
  if (found.loss) parts.push_back("its loss");
  if (!found.gradient.empty()) parts.push_back("gradient of " + found.gradient);
  return parts.empty() ? "nothing" : absl::StrJoin(parts, ", ");
}

}  // namespace

absl::StatusOr<std::string> FirstNonFinite(const std::vector<NamedTensor>& tensors, const Tensor& scratch,
                                           Stream& stream) {
  for (const NamedTensor& one : tensors) {
    if (!HasFloats(one.tensor)) continue;
    // The sum of finite fp64 elements may overflow too: such a tensor is worth a name as well.
    ISTHMUS_ASSIGN_OR_RETURN(const double sum, SumOf(AddSum, one.tensor, scratch, stream));
    if (!std::isfinite(sum)) return one.name;
  }
  return std::string();
}

absl::StatusOr<std::string> FirstZero(const std::vector<NamedTensor>& tensors, const Tensor& scratch, Stream& stream) {
  for (const NamedTensor& one : tensors) {
    if (!HasFloats(one.tensor)) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const double squares, SumOf(AddSumOfSquares, one.tensor, scratch, stream));
    if (squares == 0) return one.name;
  }
  return std::string();
}

absl::StatusOr<std::string> Largest(const std::vector<NamedTensor>& tensors, const Tensor& scratch, Stream& stream) {
  std::string name;
  double most = 0;
  for (const NamedTensor& one : tensors) {
    if (!HasFloats(one.tensor)) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const double squares, SumOf(AddSumOfSquares, one.tensor, scratch, stream));
    if (squares <= most) continue;
    most = squares;
    name = one.name;
  }
  return name;
}

std::string DescribeNonFinite(const std::vector<NonFiniteTensors>& found) {
  struct Group {
    int stage;
    std::string text;
    std::vector<size_t> ranks;
  };
  std::vector<Group> groups;
  for (size_t rank = 0; rank < found.size(); ++rank) {
    const std::string text = Describe(found[rank]);
    const auto same = [&](const Group& group) { return group.text == text; };
    auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) group = groups.insert(groups.end(), {StageOf(found[rank]), text, {}});
    group->ranks.push_back(rank);
  }
  std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.stage < b.stage; });
  constexpr size_t kMostGroups = 8, kMostRanks = 16;
  std::string text;
  for (size_t i = 0; i < groups.size() && i < kMostGroups; ++i) {
    const std::vector<size_t>& ranks = groups[i].ranks;
    const size_t named = std::min(ranks.size(), kMostRanks);
    absl::StrAppend(&text, i > 0 ? "; " : "", ranks.size() > 1 ? "ranks " : "rank ",
                    absl::StrJoin(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(named), ", "),
                    named < ranks.size() ? ", …" : "", ": ", groups[i].text);
  }
  return text;
}

}  // namespace isthmus
