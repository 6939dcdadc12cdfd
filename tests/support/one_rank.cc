#include "tests/support/one_rank.h"

#include <absl/types/span.h>
#include <gtest/gtest.h>

#include <cstddef>

namespace isthmus::testing {

std::vector<std::vector<double>> LossesOfOneRank(Communicator& world, const std::vector<TinyOptions>& cases,
                                                 int64_t steps) {
  std::vector<std::vector<double>> losses(cases.size(), std::vector<double>(static_cast<size_t>(steps)));
  for (size_t i = 0; i < cases.size(); ++i) {
    if (static_cast<int>(i % static_cast<size_t>(world.size())) != world.rank()) continue;
    Replica alone(cases[i]);
    for (int64_t step = 1; step <= steps; ++step) losses[i][static_cast<size_t>(step - 1)] = alone.Step(step).loss;
  }
  for (std::vector<double>& of_case : losses) EXPECT_TRUE(world.AllReduceNumbers(absl::MakeSpan(of_case)).ok());
  return losses;
}

std::vector<std::vector<double>> ExpectLossesOfOneRank(Communicator& world, const std::vector<TinyOptions>& meshes,
                                                       int64_t steps, double tolerance) {
  std::vector<std::vector<double>> losses = LossesOfOneRank(world, meshes, steps);
  for (size_t i = 0; i < meshes.size(); ++i) {
    SCOPED_TRACE(meshes[i].Name());
    Replica meshed(meshes[i], &world);
    for (int64_t step = 1; step <= steps; ++step) {
      const double expected = losses[i][static_cast<size_t>(step - 1)];
      EXPECT_NEAR(meshed.Step(step).loss, expected, tolerance * expected) << "step " << step;
    }
  }
  return losses;
}

void ExpectThatLossesFall(const std::vector<std::vector<double>>& losses) {
  for (const std::vector<double>& of_case : losses) {
    if (of_case.size() > 2) {
      EXPECT_LT(of_case.back(), of_case.front());
    }
  }
}

}  // namespace isthmus::testing
