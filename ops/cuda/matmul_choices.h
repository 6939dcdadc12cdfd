// The algorithms that the products of a stream use (ops/cuda/matmul_algorithms.h): one service of its context.
#ifndef ISTHMUS_OPS_CUDA_MATMUL_CHOICES_H_
#define ISTHMUS_OPS_CUDA_MATMUL_CHOICES_H_

#include <cstdint>
#include <string>

#include "ops/cuda/matmul_algorithms.h"

namespace isthmus::cuda {

struct Context;

struct MatmulChoices {
  MatmulAlgorithms known;
  bool search = false;
  int64_t generation = 0;  // how often they were set; plans made before no longer hold
  std::string device;      // name of the GPU, once it was needed
};

MatmulChoices& MatmulChoicesOf(const Context& context);
// MatmulKey on this stream.
std::string KeyOf(const MatmulArgs& args, const Context& context);

// These do the same as the functions of the same names in ops/cuda/matmul_algorithms.h, on a GPU.
void SetMatmulAlgorithms(MatmulAlgorithms algorithms, bool search, const Context& context);
MatmulAlgorithms MatmulAlgorithmsOf(const Context& context);

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_MATMUL_CHOICES_H_
