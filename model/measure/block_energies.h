// Sums tokens and the energies of their G and G_∥ by block of consecutive tokens, and by the frequency of their target.
#ifndef ISTHMUS_MODEL_MEASURE_BLOCK_ENERGIES_H_
#define ISTHMUS_MODEL_MEASURE_BLOCK_ENERGIES_H_

#include <cstdint>

#include "model/algebra/matrix.h"
#include "model/measure/frequency_buckets.h"

namespace isthmus {

struct BlockEnergies {
  // Every bucket of frequency has these columns.
  enum Column { kTokens, kEnergy, kRetained, kColumns };

  int64_t tokens = 0, block_tokens = 0;
  Matrix sums;  // [blocks, kFrequencyBuckets · kColumns]

  BlockEnergies() = default;
  // Every rank has all blocks. Sums of tokens that it has not seen are zero. The last block may be shorter.
  BlockEnergies(int64_t all_tokens, int64_t of_a_block)
      : tokens(all_tokens),
        block_tokens(of_a_block),
        sums(Matrix::Zero(Count(all_tokens, of_a_block), int64_t{kFrequencyBuckets} * kColumns)) {}

  static int64_t Count(int64_t tokens, int64_t block_tokens) { return (tokens + block_tokens - 1) / block_tokens; }

  // `token` is the place among the tokens of all ranks, `bucket` that of its target. Energies are ‖G[n, :]‖² and
  // ‖G_∥[n, :]‖².
  void Add(int64_t token, int bucket, double energy, double retained) {
    double* const block = sums.row(token / block_tokens).data() + int64_t{bucket} * kColumns;
    block[kTokens] += 1;
    block[kEnergy] += energy;
    block[kRetained] += retained;
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_BLOCK_ENERGIES_H_
