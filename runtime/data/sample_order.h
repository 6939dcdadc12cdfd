// The order in which samples are visited: a permutation computed on the fly, the same for every mesh.
#ifndef ISTHMUS_RUNTIME_DATA_SAMPLE_ORDER_H_
#define ISTHMUS_RUNTIME_DATA_SAMPLE_ORDER_H_

#include <bit>
#include <cstdint>

#include "runtime/philox.h"

namespace isthmus {

// Returns index `index` of a random permutation of [0, count), without storing it. The permutation is a balanced
// Feistel network with Philox as the round function, over the least even number of bits that holds count. It is walked
// until it lands inside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). `stream` tells permutations
// apart. count >= 1.
constexpr uint64_t PermutedIndex(uint64_t index, uint64_t count, uint64_t seed, RandomPurpose purpose,
                                 uint32_t stream) {
  if (count <= 1) return 0;
  const int half = (std::bit_width(count - 1) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = index >> half, right = index & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const auto words = Philox::Words(seed, purpose, stream, right | round << 56);
      const uint64_t mixed = left ^ ((uint64_t{words[1]} << 32 | words[0]) & mask);
      left = right;
      right = mixed;
    }
    index = left << half | right;
  } while (index >= count);
  return index;
}

// Returns the sample at place `position` of an endless run over `count` samples. Every epoch visits each sample once,
// in an order of its own.
constexpr uint64_t SampleAt(uint64_t position, uint64_t count, uint64_t seed) {
  return PermutedIndex(position % count, count, seed, RandomPurpose::kSampleOrder,
                       static_cast<uint32_t>(position / count));
}

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_SAMPLE_ORDER_H_
