// Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// Every number is a function of (seed, purpose, step, index). Any mesh therefore draws the same ones, and a checkpoint
// holds no generator state. The functions are constexpr, so that both compilers accept them.
#ifndef ISTHMUS_RUNTIME_PHILOX_H_
#define ISTHMUS_RUNTIME_PHILOX_H_

#include <array>
#include <cmath>
#include <cstdint>

namespace isthmus {

// The purpose of a number. Values are part of every run's reproducibility: never renumber.
enum class RandomPurpose : uint32_t {
  kInitialWeights = 1,
  kSampleOrder = 2,
  kGeneration = 3,
  kDropout = 4,
  kTest = 5,
  kTokenizerSample = 6,
  kValidationSplit = 7,
  kSampledClasses = 8,
  kTokenClusters = 9,
  kResample = 10,
  kSpamLang = 11,
  kControlHead = 12,
  kControlHidden = 13
};

struct Philox {
  // Returns four independent uniform 32-bit words. `index` may use 64 bits; `stream` tells apart tensors or epochs.
  static constexpr std::array<uint32_t, 4> Words(uint64_t seed, RandomPurpose purpose, uint32_t stream,
                                                 uint64_t index) {
    std::array<uint32_t, 4> counter = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), stream,
                                       static_cast<uint32_t>(purpose)};
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
      const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
      counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
                 static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    return counter;
  }

  // Returns a uniform number in [0, 1) with 53 bits.
  static constexpr double Uniform(uint64_t seed, RandomPurpose purpose, uint32_t stream, uint64_t index) {
    const auto words = Words(seed, purpose, stream, index);
    return static_cast<double>(((uint64_t{words[0]} << 32) | words[1]) >> 11) * 0x1p-53;
  }

  // Returns a standard normal number (Box & Muller 1958), element `index` of the stream `stream`.
  static double Normal(uint64_t seed, RandomPurpose purpose, uint32_t stream, uint64_t index) {
    const auto words = Words(seed, purpose, stream, index);
    const double u = (static_cast<double>(((uint64_t{words[0]} << 32) | words[1]) >> 11) + 1.0) * 0x1p-53;
    const double v = static_cast<double>(((uint64_t{words[2]} << 32) | words[3]) >> 11) * 0x1p-53;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925 * v);
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_PHILOX_H_
