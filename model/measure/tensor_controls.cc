#include "model/measure/tensor_controls.h"

#include <absl/types/span.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "model/algebra/matrix.h"
#include "model/measure/head_sums.h"
#include "model/measure/random_head.h"
#include "model/measure/random_hidden.h"
#include "model/measure/tensor_chunk.h"
#include "ops/matmul.h"
#include "runtime/status.h"
#include "runtime/stream.h"

namespace isthmus {
namespace {

// Returns the hidden states, as given, of `count` tokens of a part from its token `begin` on.
using HiddenSource = std::function<Matrix(const TokenPart& part, int64_t begin, int64_t count)>;

// Passes over all tokens and returns which share of the energy of their logit gradient lies in the space that the
// orthonormal columns of `bases` span; NaN if there is no energy. `bases` are [V_i, rank], one for each shard.
absl::StatusOr<double> VisibleShareOf(const HeadTensors& tensors, const TensorHead& head, const HiddenSource& hidden,
                                      const std::vector<ConstTensor>& bases, Communicator& tensor, Communicator& data) {
  TensorChunk chunk(tensors, head, tensor);
  const double scale = 1.0 / static_cast<double>(tensors.tokens);
  std::array<double, 2> energies = {0, 0};  // ‖G‖², ‖G_∥‖²
  Stream stream;
  for (const TokenPart& part : tensors.parts) {
    for (int64_t begin = 0; begin < part.hidden.rows; begin += chunk.capacity()) {
      const int64_t count = std::min(chunk.capacity(), part.hidden.rows - begin);
      const Matrix input = head.Input(hidden(part, begin, count));
      ISTHMUS_ASSIGN_OR_RETURN(const TensorChunk::Loss loss,
                               chunk.Form(input, part.targets.ColumnSlice(begin, count), part.first_token + begin));
      Matrix projected = Matrix::Zero(count, bases.front().columns);
      for (size_t i = 0; i < bases.size(); ++i) {
        ISTHMUS_RETURN_IF_ERROR(Matmul(
            {.a = chunk.gradient(i, count), .b = bases[i], .c = TensorOf(projected), .accumulate = true}, stream));
      }
      ISTHMUS_RETURN_IF_ERROR(tensor.AllReduce(TensorOf(projected).Reshape(1, projected.size())));
      energies[0] += loss.energy.sum() * (scale * scale);
      energies[1] += projected.squaredNorm();
    }
  }
  ISTHMUS_RETURN_IF_ERROR(chunk.ExpectFinite(data));
  ISTHMUS_RETURN_IF_ERROR(data.AllReduceNumbers(absl::MakeSpan(energies)));
  if (!(energies[0] >= kLeastEnergy)) return std::numeric_limits<double>::quiet_NaN();
  return std::min(energies[1] / energies[0], 1.0);
}

// Holds the share of the energy that is visible, for each draw.
struct DrawnShares {
  std::vector<double> head, hidden;
};

absl::StatusOr<DrawnShares> Draw(const HeadTensors& tensors, const TensorScales& scales, const TensorHead& head,
                                 const TensorTokenSums& tokens, Communicator& tensor, Communicator& data) {
  const int64_t rank = head.rank();
  std::vector<Range> rows;
  std::vector<ConstTensor> own;
  for (const TensorHead::Shard& shard : head.shards()) {
    rows.push_back(shard.rows);
    own.push_back(TensorOf(shard.basis).ColumnSlice(0, rank));
  }
  const HiddenSource given = [](const TokenPart& part, int64_t begin, int64_t count) -> Matrix {
    return ConstViewOf(part.hidden.RowSlice(begin, count));
  };
  const RandomHidden random(tokens.hidden_sum, tokens.hidden_gram, tensors.tokens);
  DrawnShares shares;
  for (int64_t i = 0; i < tensors.control_draws; ++i) {
    const auto draw = static_cast<uint32_t>(i);
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<Matrix> basis, RandomHead(rows, rank, draw, tensor));
    std::vector<ConstTensor> drawn;
    for (const Matrix& shard : basis) drawn.push_back(TensorOf(shard));
    ISTHMUS_ASSIGN_OR_RETURN(const double of_head, VisibleShareOf(tensors, head, given, drawn, tensor, data));
    shares.head.push_back(of_head);
    const HiddenSource gaussian = [&](const TokenPart& part, int64_t begin, int64_t count) {
      return TimesPowerOfTwo(random.Rows(draw, part.first_token + begin, count), scales.hidden);
    };
    ISTHMUS_ASSIGN_OR_RETURN(const double of_hidden, VisibleShareOf(tensors, head, gaussian, own, tensor, data));
    shares.hidden.push_back(of_hidden);
  }
  return shares;
}

}  // namespace

absl::StatusOr<HeadControls> MeasureControls(const HeadTensors& tensors, const TensorScales& scales,
                                             const TensorHead& head, const TensorTokenSums& tokens,
                                             const HeadFigures& figures, Communicator& tensor, Communicator& data) {
  const int64_t rank = head.rank(), vocabulary = tensors.vocabulary;
  const double isotropic = static_cast<double>(rank) / static_cast<double>(vocabulary);
  HeadControls controls{.draws = tensors.control_draws,
                        .isotropic_visible_cosine = std::sqrt(isotropic),
                        .isotropic_lost_norm_ratio = std::sqrt(1 - isotropic)};
  if (!figures.not_measured.empty()) return controls;
  DrawnShares shares;
  if (rank == 0 || rank == vocabulary) {
    // Every such head spans nothing, or all of the vocabulary.
    shares.head.assign(static_cast<size_t>(controls.draws), rank > 0 ? 1 : 0);
    shares.hidden = shares.head;
  } else {
    ISTHMUS_ASSIGN_OR_RETURN(shares, Draw(tensors, scales, head, tokens, tensor, data));
  }
  const double trained = figures.scalars.visible_cosine();
  controls.random_head = ControlOf(shares.head, trained, rank, vocabulary);
  controls.random_hidden = ControlOf(shares.hidden, trained, rank, vocabulary);
  return controls;
}

}  // namespace isthmus
