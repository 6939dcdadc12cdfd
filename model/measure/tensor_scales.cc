#include "model/measure/tensor_scales.h"

#include <absl/algorithm/container.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "model/measure/tensor_decomposition.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// This is the largest safe exponent. Products of four numbers of 2^±24, beside squares of the smallest gradients that
// are measured (kLeastEnergy in head_sums.h), stay within fp64.
constexpr double kSafe = 24;
// A product of a column and a row that is smaller than the largest one by 2^-200 does not matter.
constexpr double kFarBelow = 200;
constexpr double kZero = -1e6;  // stands for the exponent of 0
constexpr const char* kKinds[] = {"inf", "-inf", "nan"};

double Exponent(double largest) { return largest > 0 ? std::ilogb(largest) : kZero; }

bool IsSafe(double exponent) { return exponent == kZero || std::abs(exponent) <= kSafe; }

// Returns the exponent of each column's largest number.
std::vector<double> ColumnExponents(const ConstMatrixView& x) {
  std::vector<double> exponents(static_cast<size_t>(x.cols()), kZero);
  if (x.rows() == 0) return exponents;
  const Eigen::RowVectorXd largest = x.cwiseAbs().colwise().maxCoeff();
  std::transform(largest.begin(), largest.end(), exponents.begin(), Exponent);
  return exponents;
}

void Raise(std::vector<double>& exponents, const std::vector<double>& others) {
  exponents.resize(others.size(), kZero);
  for (size_t i = 0; i < others.size(); ++i) exponents[i] = std::max(exponents[i], others[i]);
}

int ToTakeOff(double exponent) { return IsSafe(exponent) ? 0 : static_cast<int>(exponent); }

absl::Status ExpectFinite(const NonFinite& search, absl::string_view name, Communicator& tensor, Communicator& data) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::optional<NonFinite::Place> found, search.First(tensor, data));
  if (!found.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": element (", found->row, ", ", found->column, ") is ",
                                                 found->value, "; needs finite numbers"));
}

// Sets the scales of a head W = U E from the exponents of U's columns and E's rows.
void BalanceFactors(const std::vector<double>& up, const std::vector<double>& down, TensorScales& scales) {
  double most = kZero;
  for (size_t j = 0; j < up.size(); ++j) most = std::max(most, up[j] + down[j]);
  if (most < kZero / 2) most = 0;  // all of W is zero
  // A column whose product is far below the largest one does not matter, and stays as it is.
  const auto sound = [&](size_t j) { return up[j] + down[j] < most - kFarBelow || (IsSafe(up[j]) && IsSafe(down[j])); };
  const auto largest = [](const std::vector<double>& exponents) { return *absl::c_max_element(exponents); };
  bool all_sound = IsSafe(largest(up)) && IsSafe(largest(down));
  for (size_t j = 0; j < up.size(); ++j) all_sound = all_sound && sound(j);
  if (all_sound) return;
  scales.head = static_cast<int>(most);
  scales.up_exponent = static_cast<int>(largest(up));
  scales.down_exponent = static_cast<int>(largest(down));
  for (size_t j = 0; j < up.size(); ++j) {
    // The two factors share equally how far their product is below the largest one, as far as that matters.
    const double below = std::max(std::floor((up[j] + down[j] - most) / 2), -kFarBelow / 2);
    const double own = up[j] != kZero ? up[j] - below : down[j] != kZero ? most - down[j] + below : 0;
    scales.up.push_back(static_cast<int>(own));
    scales.down.push_back(scales.head - scales.up.back());
  }
}

}  // namespace

absl::StatusOr<TensorScales> TensorScales::Of(const HeadTensors& tensors, Communicator& tensor, Communicator& data) {
  NonFinite hidden_search, head_search, down_search;
  double hidden = kZero;
  for (const TokenPart& part : tensors.parts) {
    const ConstMatrixView rows = ConstViewOf(part.hidden);
    hidden_search.Search(rows, part.first_token, 0);
    if (rows.rows() > 0) hidden = std::max(hidden, Exponent(rows.cwiseAbs().maxCoeff()));
  }
  std::vector<double> columns;
  for (size_t i = 0; i < tensors.weights.size(); ++i) {
    const ConstMatrixView rows = ConstViewOf(tensors.weights[i]);
    head_search.Search(rows, tensors.shards[tensors.first_shard + i].begin, 0);
    Raise(columns, ColumnExponents(rows));
  }
  if (tensors.down.defined()) down_search.Search(ConstViewOf(tensors.down), 0, 0);
  ISTHMUS_RETURN_IF_ERROR(ExpectFinite(hidden_search, tensors.hidden_name, tensor, data));
  ISTHMUS_RETURN_IF_ERROR(ExpectFinite(head_search, tensors.head_name, tensor, data));
  ISTHMUS_RETURN_IF_ERROR(ExpectFinite(down_search, tensors.down_name, tensor, data));
  ISTHMUS_RETURN_IF_ERROR(data.AllReduceNumbers(absl::MakeSpan(&hidden, 1), Reduction::kMax));
  ISTHMUS_RETURN_IF_ERROR(tensor.AllReduceNumbers(absl::MakeSpan(columns), Reduction::kMax));

  TensorScales scales;
  scales.hidden = ToTakeOff(hidden);
  scales.no_hidden = hidden == kZero;
  if (!tensors.down.defined()) {
    scales.head = ToTakeOff(*absl::c_max_element(columns));
    return scales;
  }
  const Matrix rows = ConstViewOf(tensors.down);
  Matrix down = rows.transpose();
  BalanceFactors(columns, ColumnExponents(ConstViewOf(TensorOf(down))), scales);
  return scales;
}

TensorScales::UpdateWeights TensorScales::ForUpdate() const {
  UpdateWeights weights;
  if (hidden == 0 && head == 0 && up.empty()) return weights;
  // A Wᵀ has the scale of W twice, H Bᵀ that of H twice. For a head W = U E, H B_Eᵀ Uᵀ has those of H and U twice, and
  // H' B_Uᵀ those of H and E twice.
  const int through_hidden = 2 * head;
  const int through_head = 2 * (hidden + down_exponent), through_down = 2 * (hidden + up_exponent);
  const int most = no_hidden ? through_hidden : std::max({through_hidden, through_head, through_down});
  weights.hidden_exponent = through_hidden;
  weights.head_exponent = through_head;
  weights.down_exponent = through_down;
  weights.hidden = std::ldexp(1.0, through_hidden - most);
  weights.head = std::ldexp(1.0, std::min(through_head - most, 0));
  weights.down = std::ldexp(1.0, std::min(through_down - most, 0));
  return weights;
}

Matrix TimesPowerOfTwo(Matrix x, int exponent) {
  if (exponent == 0) return x;
  std::for_each_n(x.data(), x.size(), [exponent](double& value) { value = std::ldexp(value, exponent); });
  return x;
}

Matrix ScaledColumns(Matrix x, const std::vector<int>& exponents) {
  for (size_t j = 0; j < exponents.size(); ++j) {
    const auto column = static_cast<Eigen::Index>(j);
    for (Eigen::Index i = 0; i < x.rows(); ++i) x(i, column) = std::ldexp(x(i, column), exponents[j]);
  }
  return x;
}

Matrix ScaledRows(Matrix x, const std::vector<int>& exponents) {
  for (size_t i = 0; i < exponents.size(); ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    for (Eigen::Index j = 0; j < x.cols(); ++j) x(row, j) = std::ldexp(x(row, j), exponents[i]);
  }
  return x;
}

int ExponentToTakeOff(const Matrix& x) { return x.size() > 0 ? ToTakeOff(Exponent(x.cwiseAbs().maxCoeff())) : 0; }

void NonFinite::Note(int64_t row, int64_t column, double value) {
  const auto r = static_cast<double>(row), c = static_cast<double>(column);
  if (r > row_ || (r == row_ && c >= column_)) return;
  row_ = r;
  column_ = c;
  kind_ = std::isnan(value) ? 2 : value > 0 ? 0 : 1;
}

void NonFinite::Search(const ConstMatrixView& x, int64_t row, int64_t column) {
  if (x.allFinite()) return;
  for (Eigen::Index i = 0; i < x.rows(); ++i) {
    for (Eigen::Index j = 0; j < x.cols(); ++j) {
      if (!std::isfinite(x(i, j))) return Note(row + i, column + j, x(i, j));
    }
  }
}

absl::StatusOr<std::optional<NonFinite::Place>> NonFinite::First(Communicator& tensor, Communicator& data) const {
  std::array<double, 3> first = {row_, column_, kind_};
  for (size_t i = 0; i < first.size(); ++i) {
    for (Communicator* group : {&tensor, &data}) {
      ISTHMUS_RETURN_IF_ERROR(group->AllReduceNumbers(absl::MakeSpan(&first[i], 1), Reduction::kMin));
    }
    // Only ranks with the first row, and then only those with the first column in it, take part in the next minimum.
    const double own = i == 0 ? row_ : column_;
    if (i < 2 && first[i] != own) first[i + 1] = std::numeric_limits<double>::infinity();
    if (i == 0 && first[0] != own) first[2] = first[1];
  }
  if (std::isinf(first[0])) return std::optional<Place>();
  return Place{static_cast<int64_t>(first[0]), static_cast<int64_t>(first[1]), kKinds[static_cast<int>(first[2])]};
}

}  // namespace isthmus
