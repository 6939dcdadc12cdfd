#include "model/head_decomposition.h"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/elementwise.h"
#include "ops/gram.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

absl::StatusOr<Matrix> HostMatrix(const Tensor& tensor, const Stream& stream) {
  Matrix matrix(tensor.rows, tensor.columns);
  ISTHMUS_RETURN_IF_ERROR(
      CopyToHost(tensor, Tensor(matrix.data(), DType::kFloat64, tensor.rows, tensor.columns), stream));
  return matrix;
}

struct Projected {
  Matrix coefficients_gram;  // M⁺ S M⁺ = CᵀC
  double retained = 0;       // tr(M⁺ S)
  int64_t rank = 0;
};

// M⁺ applied from the eigenvalues of M. Eigenvalues below the rounding of the largest belong to directions the head
// does not span.
Projected ProjectThroughEigenvalues(const Matrix& head, const Matrix& signal) {
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(head);
  const auto& values = solver.eigenvalues();
  const double threshold =
      std::max(values.maxCoeff(), 0.0) * static_cast<double>(head.rows()) * std::numeric_limits<double>::epsilon();
  const Eigen::VectorXd inverse = values.unaryExpr([&](double value) { return value > threshold ? 1.0 / value : 0.0; });
  const Matrix pseudo_inverse = solver.eigenvectors() * inverse.asDiagonal() * solver.eigenvectors().transpose();
  const Matrix half = pseudo_inverse * signal;
  return {half * pseudo_inverse, half.trace(), static_cast<int64_t>((values.array() > threshold).count())};
}

// Cholesky where the head is well conditioned: far cheaper than eigenvalues.
Projected Project(const Matrix& head, const Matrix& signal) {
  constexpr double kSmallestReciprocalCondition = 1e-10;
  const Eigen::LLT<Matrix> cholesky(head);
  if (cholesky.info() != Eigen::Success || !(cholesky.rcond() > kSmallestReciprocalCondition)) {
    return ProjectThroughEigenvalues(head, signal);
  }
  const Matrix half = cholesky.solve(signal);
  const Matrix coefficients = cholesky.solve(half.transpose());
  return {coefficients, half.trace(), head.rows()};
}

}  // namespace

double HeadMeasurement::Shard::lost_energy_ratio() const {
  return logit_gradient_energy > 0 ? (logit_gradient_energy - retained_energy) / logit_gradient_energy : 0;
}

void HeadDecomposition::Place(int64_t head_width, TensorPlacer& placer) {
  signal_gram_ = placer.Place("signal_gram", DType::kFloat64, head_width, head_width);
  shard_gram_ = placer.Place("shard_gram", DType::kFloat64, head_width, head_width);
  head_gram_ = placer.Place("head_gram", DType::kFloat64, head_width, head_width);
  workspace_ = placer.Place("gram_workspace", DType::kFloat32, head_width, head_width);
}

ArenaLayout HeadDecomposition::Layout(int64_t head_width) {
  TensorPlacer placer;
  HeadDecomposition().Place(head_width, placer);
  return placer.layout();
}

double HeadMeasurement::Shard::lost_norm_ratio() const { return std::sqrt(std::max(lost_energy_ratio(), 0.0)); }

absl::StatusOr<HeadDecomposition> HeadDecomposition::Create(int64_t vocabulary, int64_t head_width, const Mesh& mesh,
                                                            Stream& stream) {
  HeadDecomposition decomposition;
  decomposition.vocabulary_ = vocabulary;
  decomposition.mesh_ = &mesh;
  decomposition.stream_ = &stream;
  const int64_t bytes = Layout(head_width).bytes();
  ISTHMUS_ASSIGN_OR_RETURN(decomposition.arena_, Arena::Allocate("head decomposition", bytes, stream.device()));
  TensorPlacer placer(&decomposition.arena_);
  decomposition.Place(head_width, placer);
  return decomposition;
}

absl::Status HeadDecomposition::Reset() { return SetZero(signal_gram_, *stream_); }

absl::Status HeadDecomposition::AddMicroBatch(const HeadLoss& head) {
  const Tensor signal = head.hidden_gradient();
  signal_is_local_ = head.hidden_gradient_is_local();
  return Gram({.x = signal, .y = signal, .c = signal_gram_, .workspace = workspace_}, *stream_);
}

absl::StatusOr<HeadMeasurement> HeadDecomposition::Measure(const HeadLoss& head, const std::vector<double>& energy,
                                                           double scale) {
  const Tensor weight = head.vocabulary_weight();
  ISTHMUS_RETURN_IF_ERROR(SetZero(shard_gram_, *stream_));
  ISTHMUS_RETURN_IF_ERROR(Gram({.x = weight, .y = weight, .c = shard_gram_, .workspace = workspace_}, *stream_));
  ISTHMUS_RETURN_IF_ERROR(Cast(shard_gram_, head_gram_, *stream_));
  Communicator& tensor = mesh_->tensor();
  std::vector<double> shard_energy = energy;
  ISTHMUS_RETURN_IF_ERROR(tensor.AllReduce(head_gram_.Reshape(1, head_gram_.size())));
  if (signal_is_local_) {
    ISTHMUS_RETURN_IF_ERROR(tensor.AllReduce(signal_gram_.Reshape(1, signal_gram_.size())));
  }
  ISTHMUS_RETURN_IF_ERROR(mesh_->data().AllReduce(signal_gram_.Reshape(1, signal_gram_.size())));
  ISTHMUS_RETURN_IF_ERROR(mesh_->data().AllReduceNumbers(absl::MakeSpan(shard_energy)));

  ISTHMUS_ASSIGN_OR_RETURN(const Matrix head_gram, HostMatrix(head_gram_, *stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix shard_gram, HostMatrix(shard_gram_, *stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix signal_gram, HostMatrix(signal_gram_, *stream_));
  if (!head_gram.allFinite() || !signal_gram.allFinite()) {
    return absl::InternalError("the head or its gradient is not finite: the head decomposition has no value");
  }
  const Projected projected = Project(head_gram, signal_gram);
  // tr(CᵀC M_i) of this shard, then of all.
  const double own = projected.coefficients_gram.cwiseProduct(shard_gram.transpose()).sum();
  std::vector<double> retained(static_cast<size_t>(tensor.size()), 0.0);
  retained[static_cast<size_t>(tensor.rank())] = own;
  ISTHMUS_RETURN_IF_ERROR(tensor.AllReduceNumbers(absl::MakeSpan(retained)));

  HeadMeasurement measurement;
  double total = 0;
  for (size_t shard = 0; shard < retained.size(); ++shard) {
    measurement.shards.push_back({shard_energy[shard] * scale * scale, retained[shard]});
    total += measurement.shards.back().logit_gradient_energy;
  }
  const double kept = std::max(projected.retained, 0.0);
  const double share = static_cast<double>(projected.rank) / static_cast<double>(vocabulary_);
  measurement.logit_gradient_norm = std::sqrt(total);
  measurement.retained_gradient_norm = std::sqrt(kept);
  measurement.lost_energy_ratio = total > 0 ? std::max(total - kept, 0.0) / total : 0;
  measurement.lost_norm_ratio = std::sqrt(measurement.lost_energy_ratio);
  measurement.visible_cosine = total > 0 ? std::sqrt(kept / total) : 0;
  measurement.isotropic_lost_norm_ratio = std::sqrt(std::max(1 - share, 0.0));
  measurement.alignment_gain = share > 0 ? measurement.visible_cosine / std::sqrt(share) : 0;
  measurement.head_numerical_rank = projected.rank;
  return measurement;
}

}  // namespace isthmus
