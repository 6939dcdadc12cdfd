// Helpers that operator tests share. They have matrices in fp64 as references, and buffers of any dtype and row stride
// whose padding is watched. Their comparisons first prove that they would notice a fault.
#ifndef ISTHMUS_TESTS_SUPPORT_REFERENCE_H_
#define ISTHMUS_TESTS_SUPPORT_REFERENCE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/tensor.h"
#include "tests/support/test_device.h"

namespace isthmus::reference {

struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;

  Matrix(int64_t rows_, int64_t columns_, double value = 0)
      : rows(rows_), columns(columns_), values(static_cast<size_t>(rows_ * columns_), value) {}
  double& operator()(int64_t row, int64_t column) { return values[static_cast<size_t>(row * columns + column)]; }
  double operator()(int64_t row, int64_t column) const { return values[static_cast<size_t>(row * columns + column)]; }
};

Matrix Transpose(const Matrix& a);
// a b, by the definition.
Matrix Product(const Matrix& a, const Matrix& b);

// Normal numbers; `stream` tells matrices of one test apart.
Matrix Normal(int64_t rows, int64_t columns, uint32_t stream, double scale = 1);

// Owns a tensor on the device under test. Elements between rows hold a pattern that operators must leave alone.
class Buffer {
 public:
  Buffer(DType dtype, int64_t rows, int64_t columns, int64_t padding = 0);
  Buffer(DType dtype, const Matrix& values, int64_t padding = 0) : Buffer(dtype, values.rows, values.columns, padding) {
    Set(values);
  }
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  Tensor tensor() const { return Tensor(memory_, dtype_, rows_, columns_, stride_); }
  operator Tensor() const { return tensor(); }
  operator ConstTensor() const { return tensor(); }

  // Rounds to the dtype.
  void Set(const Matrix& values);
  Matrix Get() const;
  // Returns all bytes of elements and padding. They are equal when two runs gave the same bits and touched the same
  // places.
  std::string Bytes() const;
  bool PaddingUntouched() const;

 private:
  static constexpr unsigned char kPattern = 0xa5;

  Tensor AllBytes(void* memory) const { return Tensor(memory, DType::kUInt8, 1, static_cast<int64_t>(host_.size())); }
  void Fetch() const;
  Tensor InHost() const { return Tensor(host_.data(), dtype_, rows_, columns_, stride_); }
  void SetElement(int64_t row, int64_t column, double value);
  double Element(int64_t row, int64_t column) const;

  DType dtype_;
  int64_t rows_, columns_, stride_;
  mutable std::vector<unsigned char> host_;  // what was set, or fetched last
  void* memory_ = nullptr;
};

// The largest relative error allowed of an element, against the reference on inputs rounded to the dtype.
double Tolerance(DType dtype);

// Says whether every element is within tolerance · max(|expected|, root mean square of expected), and the directions of
// both agree.
::testing::AssertionResult Agrees(const Matrix& actual, const Matrix& expected, double tolerance);

// Expects agreement, and proves that the comparison notices a missing factor, a NaN, and a fault in one element. The
// fault is at the beginning, in the middle, or in the last element, where a vector loop's rest lies.
void ExpectAgrees(const char* what, const Matrix& actual, const Matrix& expected, double tolerance);

void ExpectAgrees(const char* what, const Buffer& actual, const Matrix& expected, DType dtype);

// ‖actual - expected‖ / ‖expected‖; NaN when any element is.
double RelativeError(const Matrix& actual, const Matrix& expected);

// Serves bf16 results of differences that cancel, where single elements keep few digits. It checks the whole tensor's
// relative error, and proves that it would notice a wrong factor and a last eighth that is missing.
void ExpectAgreesAsAWhole(const char* what, const Buffer& actual, const Matrix& expected);

// Returns ∂f/∂x by central differences.
Matrix FiniteDifferences(Matrix x, const std::function<double(const Matrix&)>& f, double step = 1e-5);

double Dot(const Matrix& a, const Matrix& b);

// Runs `run` with one, two and three threads, or twice on a GPU; it returns bytes, which must not differ.
void ExpectSameBitsForAnyThreads(const std::function<std::string()>& run);

// The types that the device computes with, and those of them in which sums are kept.
const std::vector<DType>& FloatTypes();
// The types of products: fp32, bf16 and fp64, which GPUs have for products too.
const std::vector<DType>& AllFloatTypes();
const std::vector<DType>& SumTypes();

}  // namespace isthmus::reference

#endif  // ISTHMUS_TESTS_SUPPORT_REFERENCE_H_
