// Which tokens of a step are sampled: every stride-th of all, whatever the mesh.
#ifndef ISTHMUS_MODEL_MEASURE_TOKEN_SAMPLE_H_
#define ISTHMUS_MODEL_MEASURE_TOKEN_SAMPLE_H_

#include <algorithm>
#include <cstdint>

namespace isthmus {

struct TokenSample {
  int64_t stride = 1;
  int64_t count = 0;

  // Of `tokens`, `most` at most.
  static TokenSample Of(int64_t tokens, int64_t most) {
    TokenSample sample;
    sample.stride = (tokens + most - 1) / most;
    sample.count = (tokens + sample.stride - 1) / sample.stride;
    return sample;
  }
  // Of tokens [begin, begin + count) the sampled ones: the first one's place after `begin`, and among all that are
  // sampled, and how many.
  struct Part {
    int64_t offset, first, count;
  };
  Part In(int64_t begin, int64_t tokens) const {
    const int64_t first = (begin + stride - 1) / stride, offset = first * stride - begin;
    return {offset, first, std::max<int64_t>((tokens - offset + stride - 1) / stride, 0)};
  }
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_TOKEN_SAMPLE_H_
