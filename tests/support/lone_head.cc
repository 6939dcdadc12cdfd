#include "tests/support/lone_head.h"

#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "model/chunked_loss.h"
#include "runtime/dtype.h"
#include "runtime/philox.h"

namespace isthmus::testing {
namespace {

void FillDrawn(const Tensor& tensor, uint32_t stream, double deviation) {
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const double drawn = deviation * Philox::Normal(3, RandomPurpose::kTest, stream, static_cast<uint64_t>(i));
    SetElement(tensor, i, static_cast<float>(BFloat16(static_cast<float>(drawn))));
  }
}

Matrix CopyOf(const Tensor& tensor) {
  Matrix copy(tensor.rows, tensor.columns);
  for (int64_t i = 0; i < tensor.size(); ++i) copy.data()[i] = ElementOf(tensor, i);
  return copy;
}

bool AgreesWithin(const Matrix& found, const Matrix& expected, double tolerance) {
  const double cosine = (found.array() * expected.array()).sum() / (found.norm() * expected.norm());
  return (found - expected).norm() <= tolerance * expected.norm() && cosine >= 0.999;
}

}  // namespace

LoneHead TrainLoneHead(const TinyOptions& options) {
  Replica replica(options);
  TrainingModel& model = replica.model();
  ParameterStore& parameters = model.parameters();
  const auto of_head = [&](const auto& visit) {
    for (int i = 0; i < static_cast<int>(parameters.specs().size()); ++i) {
      const ParameterSpec& spec = parameters.specs()[static_cast<size_t>(i)];
      if (absl::StartsWith(spec.name, "head.")) visit(i, spec);
    }
  };
  of_head([&](int i, const ParameterSpec& spec) {
    FillDrawn(parameters.Weight(i), static_cast<uint32_t>(i) + 1, spec.init_std);
  });
  const Tensor hidden = model.backbone().hidden(), grad_hidden = model.backbone().grad_hidden();
  FillDrawn(hidden, 0, 1);
  TokenBatch batch = MakeBatch(options, 1);
  const Tensor targets = model.loss().StepTargets(1, PartOf(batch.targets, 0, 1));
  const double scale = 1.0 / static_cast<double>(targets.columns);
  EXPECT_TRUE(model.loss().BeginStep({.step = 1, .targets = targets}).ok());
  EXPECT_TRUE(model.loss().ResetSums().ok());
  EXPECT_TRUE(
      model.loss().Train({.hidden = hidden, .targets = targets, .scale = scale, .grad_hidden = grad_hidden}).ok());
  LoneHead result{.loss = model.loss().Sums()->loss * scale, .results = {}};
  of_head([&](int i, const ParameterSpec& spec) { result.results[spec.name] = CopyOf(parameters.Gradient(i)); });
  result.results["hidden"] = CopyOf(grad_hidden);
  return result;
}

void ExpectNarrowHeadsAgree(const TinyOptions& options) {
  const LoneHead expected = TrainLoneHead(options);
  for (const auto& [precision, tolerance] :
       {std::pair(proto::PrecisionConfig::FP32, 1e-5), std::pair(proto::PrecisionConfig::BF16, 2e-2)}) {
    TinyOptions narrow = options;
    narrow.precision = precision;
    SCOPED_TRACE(narrow.Name());
    const LoneHead found = TrainLoneHead(narrow);
    EXPECT_NEAR(found.loss, expected.loss, tolerance * expected.loss);
    for (const auto& [name, gradient] : expected.results) {
      const Matrix& other = found.results.at(name);
      EXPECT_TRUE(AgreesWithin(other, gradient, tolerance))
          << name << ": off by " << (other - gradient).norm() / gradient.norm();
      EXPECT_FALSE(AgreesWithin(1.1 * other, gradient, tolerance)) << name;
    }
  }
}

}  // namespace isthmus::testing
