// Tests which steps are refused, what follows, and when it is too much.
#include "launch/run/stability.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace isthmus {
namespace {

using Action = Stability::Action;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

proto::StabilityConfig Config(const std::string& text) {
  proto::StabilityConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

StepFigures Figures(double loss, double gradient_norm = 1) {
  StepFigures figures;
  figures.loss = loss;
  figures.gradient_norm = gradient_norm;
  return figures;
}

// The detector has a full window.
Stability Settled(const std::string& config) {
  proto::StabilityConfig parsed = Config(config);
  parsed.mutable_spike()->set_window(8);
  Stability stability(parsed, {});
  for (int i = 0; i < 8; ++i) stability.Applied(Figures(3 + 0.01 * (i % 3), 1 + 0.1 * (i % 2)));
  return stability;
}

TEST(Stability, WhatIsNotFiniteHaltsUnlessAnotherPolicyIsSet) {
  Stability stability({}, {});
  const auto verdict = stability.Refused(7, 9, Figures(kNaN));
  EXPECT_EQ(verdict.action, Action::kHalt);
  EXPECT_FALSE(verdict.finite);
  EXPECT_THAT(stability.passed_over(), IsEmpty());
  EXPECT_EQ(stability.state().non_finite_total(), 1);
}

TEST(Stability, AGradientThatIsLostOrTooLargeIsNotASpike) {
  StepFigures too_large = Figures(3, 1e25);
  too_large.too_large = true;
  for (const StepFigures& figures : {Figures(3, 0), too_large}) {
    Stability stability(Config("spike { policy: SKIP } non_finite { policy: ROLLBACK }"), {});
    const auto verdict = stability.Refused(7, 9, figures);
    EXPECT_EQ(verdict.action, Action::kRollback);
    EXPECT_FALSE(verdict.finite);
    EXPECT_EQ(stability.state().non_finite_total(), 1);
    EXPECT_EQ(stability.state().spikes_total(), 0);
  }
  EXPECT_TRUE(Figures(0, 0).sound());
}

TEST(Stability, SkippingPassesOverTheBatchUntilItIsTooMuchInARow) {
  Stability stability(Config("non_finite { policy: SKIP } max_in_a_row: 2"), {});
  EXPECT_EQ(stability.Refused(5, 5, Figures(1, kNaN)).action, Action::kSkip);
  EXPECT_EQ(stability.Refused(5, 6, Figures(kNaN)).action, Action::kSkip);
  const auto end = stability.Refused(5, 7, Figures(kNaN));
  EXPECT_EQ(end.action, Action::kHalt);
  EXPECT_THAT(end.reason, HasSubstr("2 times in a row"));
  EXPECT_THAT(stability.passed_over(), ElementsAre(5, 6));
  // Another step begins anew.
  EXPECT_EQ(stability.Refused(6, 8, Figures(kNaN)).action, Action::kSkip);
  EXPECT_EQ(stability.state().skipped_steps_total(), 3);
  EXPECT_EQ(stability.state().non_finite_total(), 4);
}

TEST(Stability, SkippingEndsWhenItIsTooMuchInTheWindow) {
  Stability stability(Config("non_finite { policy: SKIP } max_in_window: 2 window: 10"), {});
  EXPECT_EQ(stability.Refused(1, 1, Figures(kNaN)).action, Action::kSkip);
  EXPECT_EQ(stability.Refused(5, 6, Figures(kNaN)).action, Action::kSkip);
  const auto end = stability.Refused(10, 12, Figures(kNaN));
  EXPECT_EQ(end.action, Action::kHalt);
  EXPECT_THAT(end.reason, HasSubstr("stability.max_in_window"));
  EXPECT_EQ(stability.Refused(11, 13, Figures(kNaN)).action, Action::kSkip);  // the first one is long ago
}

TEST(Stability, ARollbackPassesOverAsManyBatchesAsConfigured) {
  Stability stability(Config("non_finite { policy: ROLLBACK } rollback_batches: 3"), {});
  EXPECT_EQ(stability.Refused(20, 25, Figures(kNaN)).action, Action::kRollback);
  EXPECT_THAT(stability.passed_over(), ElementsAre(25, 24, 23));
  EXPECT_EQ(stability.Refused(2, 2, Figures(kNaN)).action, Action::kRollback);
  EXPECT_THAT(stability.passed_over(), ElementsAre(25, 24, 23, 2, 1));
  EXPECT_EQ(stability.state().rollbacks_total(), 2);
}

TEST(Stability, SpikesOfLossAndOfGradientNormAreRefusedAboveTheirThresholds) {
  Stability stability = Settled("spike { policy: SKIP loss_threshold: 8 gradient_norm_threshold: 16 }");
  EXPECT_TRUE(stability.Accepts(Figures(3.1)));
  EXPECT_TRUE(stability.Accepts(Figures(1.0)));
  EXPECT_FALSE(stability.Accepts(Figures(4.5)));
  EXPECT_FALSE(stability.Accepts(Figures(3, 9)));
  const auto verdict = stability.Refused(9, 9, Figures(4.5));
  EXPECT_EQ(verdict.action, Action::kSkip);
  EXPECT_TRUE(verdict.finite);
  EXPECT_EQ(stability.state().spikes_total(), 1);
  EXPECT_EQ(stability.state().refused(0).cause(), proto::RefusedStep::SPIKE);
  // The losses are as if the refused step had not been.
  EXPECT_THAT(stability.state().losses(), ::testing::Each(::testing::Lt(3.1)));
  EXPECT_FALSE(stability.Accepts(Figures(4.5)));

  EXPECT_TRUE(Settled("spike { policy: SKIP loss_threshold: 0 }").Accepts(Figures(1e9)));
  EXPECT_TRUE(Settled("spike { policy: SKIP gradient_norm_threshold: 0 }").Accepts(Figures(3, 1e9)));
}

TEST(Stability, WithoutAPolicySpikesAreOnlyCounted) {
  Stability stability = Settled("");
  EXPECT_TRUE(stability.Accepts(Figures(1e9, 1e9)));
  stability.Applied(Figures(1e9));
  proto::StabilityRecord record;
  stability.FillRecord(record);
  EXPECT_EQ(record.spikes_total(), 1);
  EXPECT_EQ(record.skipped_steps_total(), 0);
  EXPECT_GT(record.spike_score(), 1e6);
}

TEST(Stability, TheSpikeScoreIsOfWhatHasAThreshold) {
  const auto score = [](const std::string& spike, double loss, double norm) {
    Stability stability = Settled(spike);
    stability.Applied(Figures(loss, norm));
    proto::StabilityRecord record;
    stability.FillRecord(record);
    return record.has_spike_score() ? record.spike_score() : kNaN;
  };
  EXPECT_GT(score("", 1e9, 1), 1e6);
  EXPECT_GT(score("", 3, 1e9), 1e6);
  EXPECT_LT(score("spike { loss_threshold: 0 }", 1e9, 1), 10);
  EXPECT_GT(score("spike { loss_threshold: 0 }", 3, 1e9), 1e6);
  EXPECT_LT(score("spike { gradient_norm_threshold: 0 }", 3, 1e9), 10);
  EXPECT_TRUE(std::isnan(score("spike { loss_threshold: 0 gradient_norm_threshold: 0 }", 1e9, 1e9)));
}

TEST(Stability, AContinuedRunDecidesAsTheUninterruptedOne) {
  const std::string text =
      "non_finite { policy: SKIP } max_in_a_row: 2 spike { policy: SKIP window: 8 loss_threshold: 8 }";
  Stability whole(Config(text), {});
  for (int i = 0; i < 11; ++i) whole.Applied(Figures(3 + 0.01 * (i * 7 % 5)));
  whole.Refused(12, 12, Figures(kNaN));
  proto::StabilityState stored;
  ASSERT_TRUE(stored.ParseFromString(whole.state().SerializeAsString()));
  Stability parts(Config(text), stored);
  EXPECT_EQ(parts.passed_over(), whole.passed_over());
  for (Stability* one : {&whole, &parts}) {
    EXPECT_EQ(one->Refused(12, 13, Figures(kNaN)).action, Action::kSkip);
    EXPECT_EQ(one->Refused(12, 14, Figures(kNaN)).action, Action::kHalt);
    EXPECT_FALSE(one->Accepts(Figures(3.9)));
    one->Applied(Figures(3.02));
  }
  EXPECT_EQ(parts.state().SerializeAsString(), whole.state().SerializeAsString());
}

TEST(Stability, GoingBackRestoresTheDetectorAndKeepsWhatWasRefused) {
  Stability stability = Settled("non_finite { policy: ROLLBACK } spike { policy: SKIP loss_threshold: 8 }");
  const proto::StabilityState then = stability.state();
  for (int i = 0; i < 8; ++i) stability.Applied(Figures(2));
  stability.Refused(17, 17, Figures(kNaN));
  EXPECT_FALSE(stability.Accepts(Figures(3.02)));
  stability.GoBack(then);
  EXPECT_TRUE(stability.Accepts(Figures(3.02)));
  EXPECT_THAT(stability.passed_over(), ElementsAre(17));
  EXPECT_EQ(stability.state().non_finite_total(), 1);
  EXPECT_THAT(stability.state().losses(), ::testing::ElementsAreArray(then.losses()));
  // From the beginning nothing is known.
  stability.GoBack({});
  EXPECT_TRUE(stability.Accepts(Figures(1e9)));
}

}  // namespace
}  // namespace isthmus
