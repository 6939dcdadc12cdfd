#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/rope.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One thread handles kWidth pairs of one head; a pair is (i, i + head_dim / 2).
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    RopeKernel(Rows<T> x, Rows<const float> table, int64_t items, int pairs, int heads, int64_t sequence_length,
               int64_t first_position, float direction) {
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= items) return;
  const int packs = pairs / kWidth;
  const int pair = static_cast<int>(item % packs) * kWidth;
  const int64_t head = item / packs % heads, row = item / packs / heads;
  T* low = x[row] + head * 2 * pairs + pair;
  T* high = low + pairs;
  const float* angles = table[first_position + row % sequence_length] + pair;
  float a[kWidth], b[kWidth];
  LoadPack<kWidth>(static_cast<const T*>(low), a);
  LoadPack<kWidth>(static_cast<const T*>(high), b);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float cosine = angles[i], sine = direction * angles[pairs + i];
    const float turned = a[i] * cosine - b[i] * sine;
    b[i] = b[i] * cosine + a[i] * sine;
    a[i] = turned;
  }
  StorePack<kWidth>(a, low);
  StorePack<kWidth>(b, high);
}

template <typename T, int kWidth>
absl::Status Rotate(const RopeArgs& args, const Context& context) {
  const int64_t pairs = args.head_dim / 2, heads = args.x.columns / args.head_dim;
  const int64_t items = args.x.rows * heads * (pairs / kWidth);
  return Launch("Rope", RopeKernel<T, kWidth>, {dim3(BlocksFor(items, kThreads)), dim3(kThreads)}, context,
                Rows<T>(args.x), Rows<const float>(args.table), items, static_cast<int>(pairs), static_cast<int>(heads),
                args.sequence_length, args.first_position, args.inverse ? -1.0F : 1.0F);
}

}  // namespace

absl::Status Rope(const RopeArgs& args, const Context& context) {
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.x, kWidth) && args.head_dim / 2 % kWidth == 0;
    return packs ? Rotate<T, kWidth>(args, context) : Rotate<T, 1>(args, context);
  });
}

}  // namespace isthmus::cuda
