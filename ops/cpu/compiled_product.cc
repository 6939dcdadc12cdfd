#include "ops/cpu/compiled_product.h"

#include <absl/strings/str_cat.h>

#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "runtime/parallel_for.h"

namespace isthmus::cpu {
namespace {

// A matrix as oneDNN should see it: the matrix itself, or a dense copy of a column whose elements lie apart. `View` is
// Tensor for the result and ConstTensor for an operand.
template <typename View>
class Dense {
 public:
  explicit Dense(const View& matrix) : matrix_(matrix), view_(matrix) {
    if (matrix.rows == 1 || matrix.columns == 1) view_.row_stride = matrix.columns;
    copied_ = matrix.columns == 1 && matrix.rows > 1 && matrix.row_stride != 1;
    if (!copied_) return;
    copy_.resize(static_cast<size_t>(matrix.bytes()));
    view_.data = copy_.data();
  }

  const View& view() const { return view_; }
  void Gather() {
    if (copied_) Move(matrix_, Tensor(copy_.data(), matrix_.dtype, matrix_.rows, matrix_.columns));
  }
  void Scatter() {
    if (copied_) Move(view_, matrix_);
  }

 private:
  static void Move(const ConstTensor& from, const Tensor& to) {
    const auto size = static_cast<size_t>(SizeOf(from.dtype));
    for (int64_t row = 0; row < from.rows; ++row) {
      std::memcpy(to.RowSlice(row, 1).data, from.RowSlice(row, 1).data, size);
    }
  }

  View matrix_, view_;
  bool copied_ = false;
  std::vector<char> copy_;
};

class CompiledProducts {
 public:
  CompiledProducts() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  // Returns false if oneDNN has no such implementation for these types.
  bool Multiply(const MatmulArgs& args, int implementation) {
    Dense<ConstTensor> a(args.a), b(args.b);
    Dense<Tensor> c(args.c);
    a.Gather();
    b.Gather();
    if (args.accumulate) c.Gather();
    MatmulArgs dense = args;
    dense.a = a.view();
    dense.b = b.view();
    dense.c = c.view();
    if (!MultiplyDense(dense, implementation)) return false;
    c.Scatter();
    return true;
  }

 private:
  using Key =
      std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool, bool, DType, DType, int, int>;
  struct Product {
    dnnl::matmul primitive;
    dnnl::memory a, b, c;
    std::unordered_map<int, dnnl::memory> arguments;
  };

  bool MultiplyDense(const MatmulArgs& args, int implementation) {
    const MatmulSizes sizes = SizesOf(args);
    const Key key = {sizes.m,           sizes.n,          sizes.k,          args.a.row_stride, args.b.row_stride,
                     args.c.row_stride, args.transpose_a, args.transpose_b, args.accumulate,   args.a.dtype,
                     args.c.dtype,      MaxThreads(),     implementation};
    const std::lock_guard<std::mutex> lock(mutex_);
    auto found = products_.find(key);
    if (found == products_.end()) found = products_.emplace(key, MakeOrNone(args, sizes, implementation)).first;
    Product& product = found->second;
    if (!product.primitive) return false;
    // oneDNN has no type for read-only memory; it only reads these two.
    product.a.set_data_handle(const_cast<void*>(args.a.data));
    product.b.set_data_handle(const_cast<void*>(args.b.data));
    product.c.set_data_handle(args.c.data);
    product.primitive.execute(stream_, product.arguments);
    stream_.wait();
    return true;
  }

  // Describes op(tensor), [rows, columns]. One row or one column is dense here, and is described as dense. Its own
  // strides would also fit a matrix of the other orientation.
  static dnnl::memory::desc Describe(const ConstTensor& tensor, int64_t rows, int64_t columns, bool transposed) {
    using dnnl::memory;
    const auto type = tensor.dtype == DType::kFloat32 ? memory::data_type::f32 : memory::data_type::bf16;
    if (rows == 1 || columns == 1) return memory::desc({rows, columns}, type, memory::dims{columns, 1});
    const memory::dims strides = transposed ? memory::dims{1, tensor.row_stride} : memory::dims{tensor.row_stride, 1};
    return memory::desc({rows, columns}, type, strides);
  }

  // Returns an empty product if oneDNN has none.
  Product MakeOrNone(const MatmulArgs& args, const MatmulSizes& sizes, int implementation) const {
    try {
      return Make(args, sizes, implementation);
    } catch (const dnnl::error& error) {
      if (error.status == dnnl_unimplemented) return {};
      throw;
    }
  }

  Product Make(const MatmulArgs& args, const MatmulSizes& sizes, int implementation) const {
    const auto a = Describe(args.a, sizes.m, sizes.k, args.transpose_a);
    const auto b = Describe(args.b, sizes.k, sizes.n, args.transpose_b);
    const auto c = Describe(args.c, sizes.m, sizes.n, false);
    dnnl::primitive_attr attributes;
    if (args.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    using Primitive = dnnl::matmul::primitive_desc;
#if DNNL_VERSION_MAJOR >= 3
    Primitive described(engine_, a, b, c, attributes);
#else
    Primitive described({a, b, c}, attributes, engine_);
#endif
    for (int i = 0; i < implementation; ++i) {
      if (!described.next_impl()) return {};
    }
    Product product;
    product.primitive = dnnl::matmul(described);
    product.a = dnnl::memory(a, engine_, nullptr);
    product.b = dnnl::memory(b, engine_, nullptr);
    product.c = dnnl::memory(c, engine_, nullptr);
    product.arguments = {{DNNL_ARG_SRC, product.a}, {DNNL_ARG_WEIGHTS, product.b}, {DNNL_ARG_DST, product.c}};
    return product;
  }

  std::mutex mutex_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<Key, Product> products_;
};

}  // namespace

absl::StatusOr<bool> CompiledProduct(const MatmulArgs& args, int implementation) {
  try {
    // One object per process: its callers are many and short-lived, and none of them could own compiled code.
    static CompiledProducts products;
    return products.Multiply(args, implementation);
  } catch (const dnnl::error& error) {
    return absl::InternalError(
        absl::StrCat("oneDNN's product of ", args.a.Describe(), " and ", args.b.Describe(), " failed: ", error.what()));
  }
}

}  // namespace isthmus::cpu
