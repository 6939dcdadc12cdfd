// A sample takes every stride-th token of a step, whatever the mesh.
#ifndef ISTHMUS_MODEL_MEASURE_TOKEN_SAMPLE_H_
#define ISTHMUS_MODEL_MEASURE_TOKEN_SAMPLE_H_

#include <algorithm>
#include <cstdint>

namespace isthmus {

struct TokenSample {
  int64_t stride = 1;
  int64_t count = 0;

  // Takes at most `most` of `tokens`.
  static TokenSample Of(int64_t tokens, int64_t most) {
    TokenSample sample;
    sample.stride = (tokens + most - 1) / most;
    sample.count = (tokens + sample.stride - 1) / sample.stride;
    return sample;
  }
  // A part holds the sampled tokens within [begin, begin + tokens). `offset` is the place of the first after `begin`,
  // `first` its index among all samples, `count` their number.
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
