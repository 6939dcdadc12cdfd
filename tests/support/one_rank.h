// Losses of one rank alone, with which tests of meshes compare. All ranks need them, and each makes a share of them.
#ifndef ISTHMUS_TESTS_SUPPORT_ONE_RANK_H_
#define ISTHMUS_TESTS_SUPPORT_ONE_RANK_H_

#include <cstdint>
#include <vector>

#include "parallel/communicator.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {

// Returns the losses of steps 1 to `steps` of each case, trained on one rank alone. Collective over `world`.
std::vector<std::vector<double>> LossesOfOneRank(Communicator& world, const std::vector<TinyOptions>& cases,
                                                 int64_t steps);

// Expects that the ranks of `world` train each mesh with the losses of one rank alone, up to the share `tolerance` of
// each loss. Returns the latter. Collective over `world`.
std::vector<std::vector<double>> ExpectLossesOfOneRank(Communicator& world, const std::vector<TinyOptions>& meshes,
                                                       int64_t steps, double tolerance);

// Expects that the losses of each case end below their first one, which an update that does nothing would not bring
// about. Two steps or fewer are not judged.
void ExpectThatLossesFall(const std::vector<std::vector<double>>& losses);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_ONE_RANK_H_
