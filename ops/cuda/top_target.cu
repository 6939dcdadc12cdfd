#include <cmath>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/top_target.h"

namespace isthmus::cuda {
namespace {

constexpr int kRivalThreads = 256;

// Unlike fmaxf it keeps a NaN.
struct LargestOf {
  __device__ __forceinline__ float operator()(float a, float b) const { return a != a || b != b ? NAN : fmaxf(a, b); }
};

// One block handles one token.
__global__ void __launch_bounds__(kRivalThreads)
    RivalsKernel(Rows<const float> logits, const int32_t* targets, int64_t first_row, int columns, Rows<float> rivals) {
  const int64_t row = blockIdx.x;
  const float* z = logits[row];
  const int64_t target = targets[row] - first_row;
  float largest = -INFINITY;
  for (int c = static_cast<int>(threadIdx.x); c < columns; c += kRivalThreads) {
    if (c != target) largest = LargestOf()(largest, z[c]);
  }
  largest = BlockReduce(largest, LargestOf(), -INFINITY);
  if (threadIdx.x != 0) return;
  rivals[row][0] = target >= 0 && target < columns ? z[target] : -INFINITY;
  rivals[row][1] = largest;
}

// One thread handles one token.
__global__ void TopKernel(Rows<const float> gathered, int shards, int tokens, int32_t* top) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= tokens) return;
  float target = -INFINITY;
  for (int shard = 0; shard < shards; ++shard) {
    const float found = gathered[int64_t{shard} * tokens + n][0];
    if (found != -INFINITY) target = found;
  }
  bool alone = true;
  for (int shard = 0; shard < shards; ++shard) alone = alone && target > gathered[int64_t{shard} * tokens + n][1];
  top[n] = alone ? 1 : 0;
}

}  // namespace

absl::Status TargetRivals(const TargetRivalsArgs& args, const Context& context) {
  return Launch("TargetRivals", RivalsKernel, {dim3(static_cast<unsigned>(args.logits.rows)), dim3(kRivalThreads)},
                context, Rows<const float>(args.logits), args.targets.As<const int32_t>(), args.first_row,
                static_cast<int>(args.logits.columns), Rows<float>(args.rivals));
}

absl::Status TopTargets(const TopTargetsArgs& args, const Context& context) {
  constexpr int kTokensOfBlock = 64;
  const int64_t tokens = args.top.columns;
  return Launch("TopTargets", TopKernel, {dim3(BlocksFor(tokens, kTokensOfBlock)), dim3(kTokensOfBlock)}, context,
                Rows<const float>(args.gathered), static_cast<int>(args.shards), static_cast<int>(tokens),
                args.top.As<int32_t>());
}

}  // namespace isthmus::cuda
