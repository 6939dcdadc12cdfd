#include "ops/mixture_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct MixtureShape {
  int64_t tokens, count, shards, padding;
};
const std::vector<MixtureShape> kMixtureShapes = {{1, 1, 1, 0}, {5, 3, 1, 2}, {130, 4, 2, 0}, {67, 10, 3, 1}};

// All by the definition, from probabilities.
struct MixtureReference {
  MixtureReference(const Matrix& prior, const Matrix& losses, const Matrix& energies, double scale);

  Matrix loss, posterior, energy, grad_prior;
};

MixtureReference::MixtureReference(const Matrix& prior, const Matrix& losses, const Matrix& energies, double scale)
    : loss(1, prior.rows),
      posterior(1, prior.rows * prior.columns),
      energy(energies.rows, prior.rows),
      grad_prior(prior.rows, prior.columns) {
  for (int64_t n = 0; n < prior.rows; ++n) {
    double all = 0, probability = 0;
    for (int64_t k = 0; k < prior.columns; ++k) all += std::exp(prior(n, k));
    for (int64_t k = 0; k < prior.columns; ++k) {
      probability += std::exp(prior(n, k)) / all * std::exp(-losses(0, k * prior.rows + n));
    }
    loss(0, n) = -std::log(probability);
    for (int64_t k = 0; k < prior.columns; ++k) {
      const double pi = std::exp(prior(n, k)) / all, p = std::exp(-losses(0, k * prior.rows + n));
      const double gamma = pi * p / probability;
      posterior(0, k * prior.rows + n) = gamma;
      grad_prior(n, k) = scale * (pi - gamma);
      for (int64_t shard = 0; shard < energy.rows; ++shard) {
        energy(shard, n) += gamma * gamma * energies(shard, k * prior.rows + n);
      }
    }
  }
}

Matrix LossesBetween(int64_t columns, double least, double most) {
  Matrix losses = Normal(1, columns, 2);
  for (double& value : losses.values) value = least + (most - least) / (1 + std::exp(-value));
  return losses;
}

TEST(MixtureLoss, MatchesTheDefinition) {
  for (const DType dtype : reference::SumTypes()) {
    for (const MixtureShape& s : kMixtureShapes) {
      for (const DType narrow : {dtype, DType::kBFloat16}) {
        if (narrow != dtype && dtype == DType::kFloat64) continue;
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << Name(narrow) << " " << s.tokens << "x" << s.count);
        const int64_t rows = s.tokens * s.count;
        const Buffer prior(dtype, Normal(s.tokens, s.count, 1), s.padding), losses(dtype, LossesBetween(rows, 0.1, 12));
        Matrix energies = Normal(s.shards, rows, 3);
        for (double& value : energies.values) value *= value;
        const Buffer component_energy(DType::kFloat64, energies);
        const Buffer loss(dtype, 1, s.tokens), posterior(dtype, 1, rows), energy(DType::kFloat64, s.shards, s.tokens);
        const Buffer grad_prior(narrow, s.tokens, s.count, s.padding);
        ASSERT_TRUE(MixtureLoss({.prior_logits = prior,
                                 .component_loss = losses,
                                 .component_energy = component_energy,
                                 .scale = 0.25,
                                 .loss = loss,
                                 .posterior = posterior,
                                 .energy = energy,
                                 .grad_prior = grad_prior},
                                reference::TestStream())
                        .ok());
        const MixtureReference expected(prior.Get(), losses.Get(), component_energy.Get(), 0.25);
        ExpectAgrees("loss", loss, expected.loss, dtype);
        ExpectAgrees("posterior", posterior, expected.posterior, dtype);
        ExpectAgrees("energy", energy.Get(), expected.energy, 1e-10);
        EXPECT_TRUE(grad_prior.PaddingUntouched());
        if (s.count == 1) {
          EXPECT_NEAR(reference::Dot(grad_prior.Get(), grad_prior.Get()), 0, 1e-20);
        } else {
          ExpectAgrees("grad_prior", grad_prior, expected.grad_prior, narrow);
        }
      }
    }
  }
}

// Probabilities that no number holds, and priors of any size.
TEST(MixtureLoss, StaysAccurateWhereProbabilitiesVanish) {
  for (const DType dtype : reference::SumTypes()) {
    Matrix priors(1, 3), losses(1, 3);
    priors.values = {-2000, 1000, 999};
    losses.values = {3, 5000, 4998};
    const Buffer prior(dtype, priors), component_loss(dtype, losses), energies(DType::kFloat64, Matrix(1, 3, 1));
    const Buffer loss(dtype, 1, 1), posterior(dtype, 1, 3), energy(DType::kFloat64, 1, 1), gradient(dtype, 1, 3);
    ASSERT_TRUE(MixtureLoss({.prior_logits = prior,
                             .component_loss = component_loss,
                             .component_energy = energies,
                             .loss = loss,
                             .posterior = posterior,
                             .energy = energy,
                             .grad_prior = gradient},
                            reference::TestStream())
                    .ok());
    // log π - l is -3003 and, without what all priors share, -4000 and -3999.
    const double shared = 1000 + std::log1p(std::exp(-1.0));
    EXPECT_NEAR(loss.Get()(0, 0), 3 + 2000 + shared, 1e-4);
    EXPECT_NEAR(posterior.Get()(0, 0), 1, 1e-6);
    EXPECT_NEAR(gradient.Get()(0, 0), -1, 1e-6);
    EXPECT_NEAR(gradient.Get()(0, 1), 1 / (1 + std::exp(-1.0)), 1e-6);
    EXPECT_NEAR(energy.Get()(0, 0), 1, 1e-6);
  }
}

TEST(MixtureLoss, NaNStaysNaN) {
  for (const bool in_prior : {false, true}) {
    Matrix priors(1, 2, 0.5), losses(1, 2, 1);
    (in_prior ? priors : losses)(0, 1) = std::nan("");
    const Buffer prior(DType::kFloat32, priors), component_loss(DType::kFloat32, losses);
    const Buffer energies(DType::kFloat64, Matrix(1, 2, 1)), loss(DType::kFloat32, 1, 1);
    const Buffer posterior(DType::kFloat32, 1, 2), energy(DType::kFloat64, 1, 1);
    ASSERT_TRUE(MixtureLoss({.prior_logits = prior,
                             .component_loss = component_loss,
                             .component_energy = energies,
                             .loss = loss,
                             .posterior = posterior,
                             .energy = energy,
                             .grad_prior = {}},
                            reference::TestStream())
                    .ok());
    EXPECT_TRUE(std::isnan(loss.Get()(0, 0))) << in_prior;
    EXPECT_TRUE(std::isnan(posterior.Get()(0, 1))) << in_prior;
  }
}

TEST(MixtureLoss, RejectsTensorsThatDisagree) {
  const Buffer prior(DType::kFloat32, 4, 3), narrow(DType::kBFloat16, 4, 3), losses(DType::kFloat32, 1, 12);
  const Buffer few(DType::kFloat32, 1, 11), energies(DType::kFloat64, 2, 12), loss(DType::kFloat32, 1, 4);
  const Buffer posterior(DType::kFloat32, 1, 12), energy(DType::kFloat64, 2, 4), other(DType::kFloat64, 1, 4);
  const auto refuses = [&](const MixtureLossArgs& args) {
    return MixtureLoss(args, reference::TestStream()).code() == absl::StatusCode::kInvalidArgument;
  };
  const MixtureLossArgs good = {.prior_logits = prior,
                                .component_loss = losses,
                                .component_energy = energies,
                                .loss = loss,
                                .posterior = posterior,
                                .energy = energy,
                                .grad_prior = narrow};
  EXPECT_FALSE(refuses(good));
  MixtureLossArgs bad = good;
  bad.prior_logits = narrow;
  EXPECT_TRUE(refuses(bad));
  bad = good;
  bad.component_loss = few;
  EXPECT_TRUE(refuses(bad));
  bad = good;
  bad.energy = other;
  EXPECT_TRUE(refuses(bad));
  bad = good;
  bad.loss = few;
  EXPECT_TRUE(refuses(bad));
  bad = good;
  bad.posterior = few;
  EXPECT_TRUE(refuses(bad));
  bad = good;
  bad.grad_prior = energies;
  EXPECT_TRUE(refuses(bad));
}

}  // namespace
}  // namespace isthmus
