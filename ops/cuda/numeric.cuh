// Element types on the device, read as the type they are computed in, and 16 bytes at a time.
#ifndef ISTHMUS_OPS_CUDA_NUMERIC_CUH_
#define ISTHMUS_OPS_CUDA_NUMERIC_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace isthmus::cuda {

__device__ __forceinline__ float Widen(float value) { return value; }
__device__ __forceinline__ float Widen(BFloat16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

__device__ __forceinline__ double Exactly(double value) { return value; }
template <typename T>
__device__ __forceinline__ double Exactly(T value) {
  return Widen(value);
}

template <typename T>
__device__ __forceinline__ T Narrow(float value);
template <>
__device__ __forceinline__ float Narrow<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ BFloat16 Narrow<BFloat16>(float value) {
  BFloat16 result;
  result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
  return result;
}

// kWidth neighbouring elements, loaded and stored at once.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];
};

// Elements of T in 16 bytes.
template <typename T>
inline constexpr int kPackWidth = 16 / static_cast<int>(sizeof(T));

template <int kWidth, typename T>
__device__ __forceinline__ void LoadPack(const T* from, float (&to)[kWidth]) {
  const Pack<T, kWidth> pack = *reinterpret_cast<const Pack<T, kWidth>*>(from);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) to[i] = Widen(pack.values[i]);
}

template <int kWidth, typename T>
__device__ __forceinline__ void StorePack(const float (&from)[kWidth], T* to) {
  Pack<T, kWidth> pack;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) pack.values[i] = Narrow<T>(from[i]);
  *reinterpret_cast<Pack<T, kWidth>*>(to) = pack;
}

// The view from which a kernel's pointer to T is taken: ConstTensor for memory that is only read.
template <typename T>
using ViewFor = std::conditional_t<std::is_const_v<T>, ConstTensor, Tensor>;

// The rows of a tensor.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;
  Rows() = default;
  explicit Rows(const ViewFor<T>& tensor) : data(tensor.template As<T>()), stride(tensor.row_stride) {}
  __device__ __forceinline__ T* operator[](int64_t row) const { return data + row * stride; }
};

// Says whether every row of the tensor can be read in packs of `width`: its address, row stride and columns allow it.
inline bool Packs(const ConstTensor& tensor, int width) {
  if (!tensor.defined()) return true;
  const auto bytes = static_cast<uintptr_t>(width * SizeOf(tensor.dtype));
  return reinterpret_cast<uintptr_t>(tensor.data) % bytes == 0 && tensor.columns % width == 0 &&
         (tensor.rows <= 1 || tensor.row_stride % width == 0);
}

// Calls visit(T{}) with the C++ type of a floating-point dtype that GPUs compute with: float or BFloat16.
template <typename Visit>
auto VisitElements(DType dtype, const Visit& visit) {
  return dtype == DType::kBFloat16 ? visit(BFloat16{}) : visit(float{});
}

// Does the same with double too, for the few operators that have fp64.
template <typename Visit>
auto VisitNumbers(DType dtype, const Visit& visit) {
  return dtype == DType::kFloat64 ? visit(double{}) : VisitElements(dtype, visit);
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_NUMERIC_CUH_
