// The head decomposition by brute force: N×V matrices in fp64 and an orthonormal basis of the head's column space. It
// shares no code with model/measure/head_decomposition.cc.
#ifndef ISTHMUS_TESTS_SUPPORT_HEAD_REFERENCE_H_
#define ISTHMUS_TESTS_SUPPORT_HEAD_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace isthmus::testing {

struct HeadReference {
  double logit_gradient_norm = 0;
  double retained_gradient_norm = 0;
  double lost_energy_ratio = 0;
  std::vector<double> shard_energy, shard_retained;
};

// `hidden` [N, D] and `head` [V, D] have any floating type, `targets` is [N]. `shards` are ranges of vocabulary rows.
HeadReference DecomposeByBruteForce(const Tensor& hidden, const Tensor& head, const std::vector<int32_t>& targets,
                                    const std::vector<Range>& shards);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_HEAD_REFERENCE_H_
