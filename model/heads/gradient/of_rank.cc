// The backward pass of rank k gives G W_k, where W_k is the best matrix of rank k for W (Eckart–Young). The forward pass
// is exact, so that the arm without it differs in the gradient alone. G W_k = A Q Qᵀ with W's first k right singular
// vectors Q.
#include <absl/strings/str_cat.h>

#include "model/algebra/host_copy.h"
#include "model/algebra/symmetric.h"
#include "model/heads/gradient/matrix_backward.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class OfRankBackward : public MatrixBackward {
 public:
  explicit OfRankBackward(const HeadBackwardRequest& request)
      : MatrixBackward(request, request.config.match_norm()), rank_(request.config.rank()) {}

 protected:
  absl::StatusOr<bool> FindMatrix(const Tensor& gram, Stream& stream) override {
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix m, HostCopy(gram, stream));
    if (!m.allFinite()) return false;
    // A plan needs no numbers, and of a wide head they take minutes.
    const Matrix projection = stream.dry() ? Matrix(Matrix::Zero(m.rows(), m.cols())) : ProjectionOnFirst(m, rank_);
    ISTHMUS_RETURN_IF_ERROR(CopyToTensor(projection, gram, stream));
    return true;
  }

 private:
  const int64_t rank_;
};

std::string CheckOfRank(const proto::ModelConfig& model) {
  const int64_t rank = model.head().backward().rank();
  if (rank >= 1 && rank <= model.width()) return "";
  return absl::StrCat("model.head.backward.rank: ", rank, "; accepts 1 to model.width (", model.width(), ")");
}

}  // namespace

HeadBackwardKind OfRankBackwardKind() {
  return {.name = "rank",
          .make = [](const HeadBackwardRequest& request) { return std::make_unique<OfRankBackward>(request); },
          .check = CheckOfRank};
}

}  // namespace isthmus
