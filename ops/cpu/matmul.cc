#include "ops/matmul.h"

#include <absl/strings/str_cat.h>

#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "ops/cpu/fp32_product.h"
#include "ops/cpu/fp64_product.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/widened_product.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus::cpu {
namespace {

// fp64, rows of c cut over the threads.
void MultiplyFp64(const MatmulArgs& args, const MatmulSizes& sizes) {
  ParallelFor(sizes.m, 16, [&](int64_t begin, int64_t end, int) {
    MatmulArgs part = args;
    part.a = args.transpose_a ? args.a.ColumnSlice(begin, end - begin) : args.a.RowSlice(begin, end - begin);
    part.c = args.c.RowSlice(begin, end - begin);
    Fp64Product(part);
  });
}

// Whether the processor multiplies bf16 itself. Where it has AVX-512 without that, oneDNN's products of bf16 take five
// times as long as those of fp32.
bool MultipliesBf16() {
  constexpr auto kNeeded = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kNeeded) == kNeeded;
}

// oneDNN's compiled products for bf16, made once per shape: making one takes far longer than a small product.
class Bf16Products {
 public:
  Bf16Products() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), missing_(!MultipliesBf16()) {}

  // False where oneDNN has no product of bf16 for this processor that is worth having.
  bool Multiply(const MatmulArgs& args, const MatmulSizes& sizes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (missing_) return false;
    const Key key = {
        sizes.m,           sizes.n,          sizes.k,          args.a.row_stride, args.b.row_stride,
        args.c.row_stride, args.transpose_a, args.transpose_b, args.accumulate,   args.c.dtype == DType::kFloat32,
        MaxThreads()};
    auto found = products_.find(key);
    if (found == products_.end()) {
      try {
        found = products_.emplace(key, Make(args, sizes)).first;
      } catch (const dnnl::error& error) {
        missing_ = error.status == dnnl_unimplemented;
        if (missing_) return false;
        throw;
      }
    }
    Product& product = found->second;
    product.a.set_data_handle(args.a.data);
    product.b.set_data_handle(args.b.data);
    product.c.set_data_handle(args.c.data);
    product.primitive.execute(stream_, product.arguments);
    stream_.wait();
    return true;
  }

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool, bool, bool, int>;
  struct Product {
    dnnl::matmul primitive;
    dnnl::memory a, b, c;
    std::unordered_map<int, dnnl::memory> arguments;
  };

  Product Make(const MatmulArgs& args, const MatmulSizes& sizes) const {
    using dnnl::memory;
    const auto describe = [](const Tensor& tensor, int64_t rows, int64_t columns, bool transposed) {
      const auto type = tensor.dtype == DType::kFloat32 ? memory::data_type::f32 : memory::data_type::bf16;
      const memory::dims strides = transposed ? memory::dims{1, tensor.row_stride} : memory::dims{tensor.row_stride, 1};
      return memory::desc({rows, columns}, type, strides);
    };
    const memory::desc a = describe(args.a, sizes.m, sizes.k, args.transpose_a);
    const memory::desc b = describe(args.b, sizes.k, sizes.n, args.transpose_b);
    const memory::desc c = describe(args.c, sizes.m, sizes.n, false);
    dnnl::primitive_attr attributes;
    if (args.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    Product product;
    product.primitive = dnnl::matmul({{a, b, c}, attributes, engine_});
    product.a = memory(a, engine_, nullptr);
    product.b = memory(b, engine_, nullptr);
    product.c = memory(c, engine_, nullptr);
    product.arguments = {{DNNL_ARG_SRC, product.a}, {DNNL_ARG_WEIGHTS, product.b}, {DNNL_ARG_DST, product.c}};
    return product;
  }

  std::mutex mutex_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<Key, Product> products_;
  bool missing_;
};

absl::Status MultiplyBf16(const MatmulArgs& args, const MatmulSizes& sizes) {
  // One per process: compiled code has no owner among the callers, who are many and short-lived.
  static Bf16Products products;
  try {
    if (products.Multiply(args, sizes)) return absl::OkStatus();
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("oneDNN bf16 matrix product failed: ", error.what()));
  }
  return WidenedProduct(args);
}

}  // namespace

absl::Status Matmul(const MatmulArgs& args) {
  const MatmulSizes sizes = SizesOf(args);
  if (sizes.m == 0 || sizes.n == 0) return absl::OkStatus();
  if (sizes.k == 0) return args.accumulate ? absl::OkStatus() : SetZero(args.c);
  switch (args.a.dtype) {
    case DType::kFloat64:
      MultiplyFp64(args, sizes);
      return absl::OkStatus();
    case DType::kBFloat16:
      return MultiplyBf16(args, sizes);
    default:
      return Fp32Product(args);
  }
}

}  // namespace isthmus::cpu
