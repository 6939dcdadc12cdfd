// Compares the whole model's gradients with finite differences in fp64.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "runtime/philox.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

// Relative error of <gradient, direction> against a central difference of the loss along the direction, per parameter.
class GradientCheck {
 public:
  explicit GradientCheck(const TinyOptions& options) : replica_(options), batch_(MakeBatch(options, 1)) {
    const double tokens = static_cast<double>(batch_.ids.size());
    TrainingModel& model = replica_.model();
    EXPECT_TRUE(model.backbone().Forward(Ids()).ok());
    EXPECT_TRUE(model.loss()
                    .Train({.hidden = model.backbone().hidden(),
                            .targets = Targets(),
                            .ids = Ids(),
                            .scale = 1.0 / tokens,
                            .grad_hidden = model.backbone().grad_hidden()})
                    .ok());
    EXPECT_TRUE(model.backbone().Backward(Ids(), nullptr).ok());
  }

  double Error(int spec, double disturbance = 0) {
    const Tensor weight = replica_.model().parameters().Weight(spec);
    const Tensor gradient = replica_.model().parameters().Gradient(spec);
    std::vector<double> original(static_cast<size_t>(weight.size())), direction(original.size());
    double expected = 0, gradient_norm = 0;
    for (int64_t i = 0; i < weight.size(); ++i) {
      const auto at = static_cast<size_t>(i);
      original[at] = ElementOf(weight, i);
      direction[at] = Philox::Normal(3, RandomPurpose::kTest, static_cast<uint32_t>(spec), static_cast<uint64_t>(i));
      const double g = ElementOf(gradient, i) * (i == weight.size() / 2 ? 1 + disturbance : 1);
      expected += g * direction[at];
      gradient_norm += g * g;
    }
    const auto loss_at = [&](double distance) {
      for (size_t i = 0; i < original.size(); ++i) {
        SetElement(weight, static_cast<int64_t>(i), original[i] + distance * direction[i]);
      }
      return *replica_.model().Evaluate(Ids(), Targets());
    };
    // The central difference has fourth order: its truncation error stays below the tolerance where rounding does, too.
    const double h = 2e-4;
    const double slope = (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h);
    loss_at(0);
    return std::abs(slope - expected) / std::sqrt(gradient_norm);
  }

  absl::Span<const ParameterSpec> specs() { return replica_.model().parameters().specs(); }

 private:
  Tensor Ids() { return PartOf(batch_.ids, 0, 1); }
  Tensor Targets() { return PartOf(batch_.targets, 0, 1); }

  Replica replica_;
  TokenBatch batch_;
};

TinyOptions SmallVocabulary() {
  TinyOptions options;
  options.vocabulary = 37;
  options.sequences = 3;
  options.sequence_length = 7;
  return options;
}

void ExpectAllGradientsRight(const TinyOptions& options) {
  GradientCheck check(options);
  for (size_t spec = 0; spec < check.specs().size(); ++spec) {
    EXPECT_LT(check.Error(static_cast<int>(spec)), 1e-6) << check.specs()[spec].name << ", " << options.Name();
  }
}

TEST(ModelGradient, MatchesFiniteDifferencesWithFullHead) { ExpectAllGradientsRight(SmallVocabulary()); }

TEST(ModelGradient, MatchesFiniteDifferencesWithFactorisedHead) {
  TinyOptions options = SmallVocabulary();
  options.head_rank = 5;
  ExpectAllGradientsRight(options);
}

TEST(ModelGradient, MatchesFiniteDifferencesWithTiedEmbeddings) {
  TinyOptions options = SmallVocabulary();
  options.tied = true;
  ExpectAllGradientsRight(options);
}

TEST(ModelGradient, MatchesFiniteDifferencesWithRecomputation) {
  TinyOptions options = SmallVocabulary();
  options.recompute = true;
  ExpectAllGradientsRight(options);
}

TEST(ModelGradient, CheckFailsWhenOneElementOfAGradientIsWrong) {
  GradientCheck check(SmallVocabulary());
  for (size_t spec = 0; spec < check.specs().size(); ++spec) {
    EXPECT_GT(check.Error(static_cast<int>(spec), 0.05), 1e-6) << check.specs()[spec].name;
  }
}

}  // namespace
}  // namespace isthmus::testing
