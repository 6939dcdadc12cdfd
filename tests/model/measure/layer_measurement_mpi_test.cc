// ranks: 1 2 3 4 6
// The cosines of tokens in the residual stream are those of all pairs of its rows, whatever the mesh.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "model/algebra/matrix.h"
#include "runtime/philox.h"
#include "tests/support/head_comparison.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

// Meshes of {1, 2, 3} tensor × {1, 2, 4} data ranks that the world makes.
std::vector<TinyOptions> MeshesOfLayers(TinyOptions options) {
  std::vector<TinyOptions> meshes;
  for (const int tensor : {1, 2, 3}) {
    options.tensor = tensor;
    options.data = World().size() / tensor;
    if (World().size() % tensor == 0 && options.sequences % options.data == 0) meshes.push_back(options);
  }
  return meshes;
}

// The residual stream at the entrances of the layers and of the final norm, after a forward pass of the whole batch.
std::vector<Matrix> EntrancesOf(Replica& alone, TokenBatch batch) {
  const Backbone& backbone = alone.model().backbone();
  EXPECT_TRUE(alone.model().backbone().Forward(PartOf(batch.ids, 0, 1)).ok());
  std::vector<Matrix> entrances;
  for (const NamedTensor& saved : backbone.SavedTensors()) {
    const bool next = absl::StartsWith(saved.name, absl::StrCat("layers.", entrances.size(), "."));
    if (!next && saved.name != "final_norm.x") continue;
    Matrix& rows = entrances.emplace_back(saved.tensor.rows, saved.tensor.columns);
    for (int64_t i = 0; i < saved.tensor.size(); ++i) rows.data()[i] = ElementOf(saved.tensor, i);
  }
  return entrances;
}

// The mean cosine over all pairs of rows that are not zero.
double CosineOfPairs(const Matrix& rows) {
  double sum = 0;
  int64_t pairs = 0;
  for (Eigen::Index i = 0; i < rows.rows(); ++i) {
    for (Eigen::Index j = 0; j < i; ++j) {
      const double norms = rows.row(i).norm() * rows.row(j).norm();
      if (norms == 0) continue;
      sum += rows.row(i).dot(rows.row(j)) / norms;
      ++pairs;
    }
  }
  return sum / static_cast<double>(pairs);
}

void ExpectCosinesByPairs(const std::vector<LayerFigures>& found, const std::vector<Matrix>& entrances, int64_t sampled,
                          double tolerance) {
  ASSERT_EQ(found.size(), entrances.size());
  for (size_t place = 0; place < found.size(); ++place) {
    const Matrix& all = entrances[place];
    EXPECT_NEAR(found[place].anisotropy, CosineOfPairs(all), tolerance) << place;
    const Matrix centred = all.rowwise() - all.colwise().mean();
    const Eigen::Index stride = (all.rows() + sampled - 1) / sampled;
    const Matrix sample = centred(Eigen::seq(0, all.rows() - 1, stride), Eigen::all);
    EXPECT_NEAR(found[place].centred_anisotropy, CosineOfPairs(sample), tolerance) << place;
  }
}

TEST(LayerMeasurement, CosinesAreThoseOfAllPairsOnEveryMesh) {
  for (TinyOptions options : MeshesOfLayers(PartOptions())) {
    for (const int bits : SomeOf(Switches(3))) {
      for (const int64_t sampled : {256, 20, 2}) {
        options.sequence_parallel = (bits & 1) != 0;
        options.micro_batch = (bits & 2) != 0 ? 2 : 0;
        options.recompute = (bits & 4) != 0;
        options.sample_tokens = sampled;
        SCOPED_TRACE(options.Name());
        TinyOptions whole = options;
        whole.micro_batch = 0;
        whole.recompute = false;
        Replica alone(whole), meshed(options, &World());
        const std::vector<Matrix> entrances = EntrancesOf(alone, MakeBatch(options, 1));
        ASSERT_EQ(entrances.size(), 3u);
        ExpectCosinesByPairs(meshed.Step(1, /*measure_head=*/true).layers, entrances, sampled, 1e-10);
        // Nothing of a step stays for the next one.
        alone.Step(1);
        ExpectCosinesByPairs(meshed.Step(2, /*measure_head=*/true).layers, EntrancesOf(alone, MakeBatch(options, 0)),
                             sampled, 1e-9);
      }
    }
  }
}

// Narrow numbers are widened before they are multiplied or added.
TEST(LayerMeasurement, CosinesOfNarrowStreamsAreExact) {
  for (const auto precision : {proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
    TinyOptions options = PartOptions();
    options.precision = precision;
    options.sample_tokens = 20;
    Replica replica(options);
    const std::vector<Matrix> entrances = EntrancesOf(replica, MakeBatch(options, 1));
    ExpectCosinesByPairs(replica.Step(1, /*measure_head=*/true).layers, entrances, 20, 1e-12);
  }
}

// Measures layer 0's entrance, in which each token of the vocabulary stands once: the rows of the table.
class EmbeddedTokens {
 public:
  using Element = std::function<double(int64_t row, int64_t column)>;

  EmbeddedTokens(proto::PrecisionConfig::Kind precision, int64_t sampled, const Element& element)
      : options_(Options(precision, sampled)), replica_(options_) {
    const Tensor table = replica_.model().parameters().Weight("embedding.weight");
    for (int64_t i = 0; i < table.size(); ++i) {
      SetElement(table, i, element(i / options_.width, i % options_.width));
    }
    std::vector<int32_t> ids(kTokens), targets(kTokens, 3);
    std::iota(ids.begin(), ids.end(), 0);
    entrance_ = EntrancesOf(replica_, {.ids = ids, .targets = targets}).front();
    const auto result = replica_.model().Step({.ids = PartOf(ids, 0, 1),
                                               .targets = PartOf(targets, 0, 1),
                                               .step = 1,
                                               .learning_rate = 1e-3,
                                               .measure = true});
    EXPECT_TRUE(result.ok() && result->applied) << result.status();
  }

  static constexpr int64_t kTokens = 512;
  LayerFigures figures() const { return replica_.decomposition().result().layers.front(); }
  const Matrix& entrance() const { return entrance_; }

 private:
  static TinyOptions Options(proto::PrecisionConfig::Kind precision, int64_t sampled) {
    TinyOptions options;
    options.precision = precision;
    options.vocabulary = kTokens;
    options.sequences = kTokens / options.sequence_length;
    options.width = 64;
    options.head_dim = 16;
    options.sample_tokens = sampled;
    return options;
  }

  TinyOptions options_;
  mutable Replica replica_;
  Matrix entrance_;
};

double NormalElement(int64_t row, int64_t column) {
  return Philox::Normal(3, RandomPurpose::kTest, static_cast<uint32_t>(column), static_cast<uint64_t>(row));
}

// The cosine of two random directions has the variance 1 / D, so that the mean over n² / 2 pairs deviates by √(2 / D) / n.
// A sample less its own mean would be at -1 / (n - 1).
TEST(LayerMeasurement, ACommonPartIsInTheRawCosineAlone) {
  if (World().rank() != 0) return;
  constexpr int64_t kSampled = 32;
  const double deviation = std::sqrt(2.0 / 64);
  const auto figures = [&](double common) {
    return EmbeddedTokens(proto::PrecisionConfig::FP64, kSampled,
                          [&](int64_t row, int64_t column) { return common + NormalElement(row, column); })
        .figures();
  };
  const LayerFigures isotropic = figures(0), shifted = figures(30);
  EXPECT_NEAR(isotropic.anisotropy, 0, 2.5 * deviation / EmbeddedTokens::kTokens);
  EXPECT_NEAR(isotropic.centred_anisotropy, 0, 2.5 * deviation / kSampled);
  EXPECT_GT(shifted.anisotropy, 0.998);
  EXPECT_LT(shifted.anisotropy, 1);
  EXPECT_NEAR(shifted.centred_anisotropy, isotropic.centred_anisotropy, 1e-9);
}

TEST(LayerMeasurement, RowsThatAreAlikeHaveNoCentredCosine) {
  if (World().rank() != 0) return;
  for (const auto precision :
       {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
    const auto alike = [](int64_t, int64_t column) { return 0.1 * static_cast<double>(1 + column % 7); };
    const LayerFigures figures = EmbeddedTokens(precision, 32, alike).figures();
    EXPECT_NEAR(figures.anisotropy, 1, 1e-12);
    EXPECT_TRUE(std::isnan(figures.centred_anisotropy)) << figures.centred_anisotropy;
    // A single other row is enough for one.
    const auto but_one = [&](int64_t row, int64_t column) { return alike(row, column) + (row == 16 ? column : 0); };
    EXPECT_TRUE(std::isfinite(EmbeddedTokens(precision, 32, but_one).figures().centred_anisotropy));
  }
}

TEST(LayerMeasurement, RowsOfZerosDoNotCount) {
  if (World().rank() != 0) return;
  const auto some = [](int64_t row, int64_t column) { return row % 4 == 1 ? 1 + NormalElement(row, column) : 0.0; };
  const EmbeddedTokens tokens(proto::PrecisionConfig::FP32, 30, some);
  ExpectCosinesByPairs({tokens.figures()}, {tokens.entrance()}, 30, 1e-12);
  EXPECT_GT(tokens.figures().anisotropy, 0.4);
}

}  // namespace
}  // namespace isthmus::testing
