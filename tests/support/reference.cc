#include "tests/support/reference.h"

#include <algorithm>
#include <cmath>

#include "runtime/device.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"

namespace isthmus::reference {

Matrix Transpose(const Matrix& a) {
  Matrix result(a.columns, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) result(j, i) = a(i, j);
  }
  return result;
}

Matrix Product(const Matrix& a, const Matrix& b) {
  Matrix c(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i) {
    double* sums = c.values.data() + i * c.columns;
    for (int64_t k = 0; k < a.columns; ++k) {
      const double factor = a(i, k);
      const double* row = b.values.data() + k * b.columns;
      for (int64_t j = 0; j < b.columns; ++j) sums[j] += factor * row[j];
    }
  }
  return c;
}

Matrix Normal(int64_t rows, int64_t columns, uint32_t stream, double scale) {
  constexpr uint64_t kSeed = 20260131;
  Matrix result(rows, columns);
  for (size_t i = 0; i < result.values.size(); ++i) {
    result.values[i] = scale * Philox::Normal(kSeed, RandomPurpose::kTest, stream, i);
  }
  return result;
}

Buffer::Buffer(DType dtype, int64_t rows, int64_t columns, int64_t padding)
    : dtype_(dtype), rows_(rows), columns_(columns), stride_(columns + padding) {
  const int64_t bytes = (rows * stride_ + padding) * SizeOf(dtype);
  host_.assign(static_cast<size_t>(bytes), kPattern);
  // One byte more, so that an empty tensor has an address.
  memory_ = *AllocateMemory("test", bytes + 1, TestStream().device());
  Set(Matrix(rows, columns));
}

Buffer::~Buffer() { FreeMemory(memory_, TestStream().device()); }

void Buffer::Set(const Matrix& values) {
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t column = 0; column < columns_; ++column) SetElement(row, column, values(row, column));
  }
  EXPECT_TRUE(CopyFromHost(AllBytes(host_.data()), AllBytes(memory_), TestStream()).ok());
}

Matrix Buffer::Get() const {
  Fetch();
  Matrix result(rows_, columns_);
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t column = 0; column < columns_; ++column) result(row, column) = Element(row, column);
  }
  return result;
}

std::string Buffer::Bytes() const {
  Fetch();
  return std::string(reinterpret_cast<const char*>(host_.data()), host_.size());
}

bool Buffer::PaddingUntouched() const {
  const std::string bytes = Bytes();
  const size_t row_bytes = static_cast<size_t>(stride_ * SizeOf(dtype_));
  for (size_t i = 0; i < bytes.size(); ++i) {
    const bool padding =
        i % row_bytes >= static_cast<size_t>(columns_ * SizeOf(dtype_)) || i / row_bytes >= static_cast<size_t>(rows_);
    if (padding && static_cast<unsigned char>(bytes[i]) != kPattern) return false;
  }
  return true;
}

void Buffer::SetElement(int64_t row, int64_t column, double value) {
  const Tensor t = InHost();
  switch (dtype_) {
    case DType::kFloat64:
      t.Row<double>(row)[column] = value;
      break;
    case DType::kFloat32:
      t.Row<float>(row)[column] = static_cast<float>(value);
      break;
    case DType::kBFloat16:
      t.Row<BFloat16>(row)[column] = BFloat16(static_cast<float>(value));
      break;
    case DType::kInt32:
      t.Row<int32_t>(row)[column] = static_cast<int32_t>(value);
      break;
    case DType::kUInt8:
      t.Row<uint8_t>(row)[column] = static_cast<uint8_t>(value);
      break;
    case DType::kFloat8E4M3:
      t.Row<Float8E4M3>(row)[column] = Float8E4M3(static_cast<float>(value));
      break;
    case DType::kFloat8E5M2:
      t.Row<Float8E5M2>(row)[column] = Float8E5M2(static_cast<float>(value));
      break;
  }
}

double Buffer::Element(int64_t row, int64_t column) const {
  const Tensor t = InHost();
  switch (dtype_) {
    case DType::kFloat64:
      return t.Row<double>(row)[column];
    case DType::kFloat32:
      return static_cast<double>(t.Row<float>(row)[column]);
    case DType::kBFloat16:
      return static_cast<double>(static_cast<float>(t.Row<BFloat16>(row)[column]));
    case DType::kInt32:
      return t.Row<int32_t>(row)[column];
    case DType::kUInt8:
      return t.Row<uint8_t>(row)[column];
    case DType::kFloat8E4M3:
      return static_cast<double>(static_cast<float>(t.Row<Float8E4M3>(row)[column]));
    case DType::kFloat8E5M2:
      return static_cast<double>(static_cast<float>(t.Row<Float8E5M2>(row)[column]));
  }
  return 0;
}

void Buffer::Fetch() const { EXPECT_TRUE(CopyToHost(AllBytes(memory_), AllBytes(host_.data()), TestStream()).ok()); }

double Tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 1e-12;
    case DType::kBFloat16:
      return 2e-2;
    default:
      return OnGpu() ? 1e-4 : 1e-5;
  }
}

::testing::AssertionResult Agrees(const Matrix& actual, const Matrix& expected, double tolerance) {
  if (actual.rows != expected.rows || actual.columns != expected.columns) {
    return ::testing::AssertionFailure() << "shapes differ";
  }
  double squares = 0, actual_squares = 0, dot = 0;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    squares += expected.values[i] * expected.values[i];
    actual_squares += actual.values[i] * actual.values[i];
    dot += actual.values[i] * expected.values[i];
  }
  const double typical = std::sqrt(squares / static_cast<double>(std::max<size_t>(1, expected.values.size())));
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const double allowed = tolerance * std::max(std::fabs(expected.values[i]), typical);
    // Negated, so that NaN fails.
    if (!(std::fabs(actual.values[i] - expected.values[i]) <= allowed)) {
      const int64_t at = static_cast<int64_t>(i);
      return ::testing::AssertionFailure()
             << "element (" << at / expected.columns << ", " << at % expected.columns << "): found " << actual.values[i]
             << ", expected " << expected.values[i] << " within " << allowed;
    }
  }
  if (squares > 0 && !(dot >= 0.999 * std::sqrt(squares * actual_squares))) {
    return ::testing::AssertionFailure() << "cosine " << dot / std::sqrt(squares * actual_squares);
  }
  return ::testing::AssertionSuccess();
}

void ExpectAgrees(const char* what, const Matrix& actual, const Matrix& expected, double tolerance) {
  SCOPED_TRACE(what);
  EXPECT_TRUE(Agrees(actual, expected, tolerance));
  if (expected.values.empty()) return;
  double squares = 0;
  for (const double value : expected.values) squares += value * value;
  const double typical = std::sqrt(squares / static_cast<double>(expected.values.size()));
  if (typical == 0) return;
  for (const size_t i : {size_t{0}, expected.values.size() / 2, expected.values.size() - 1}) {
    Matrix wrong = actual;
    wrong.values[i] += 3 * tolerance * std::max(std::fabs(wrong.values[i]), typical);
    EXPECT_FALSE(Agrees(wrong, expected, tolerance)) << "a fault in element " << i << " went unnoticed";
    wrong.values[i] = std::nan("");
    EXPECT_FALSE(Agrees(wrong, expected, tolerance)) << "NaN in element " << i << " went unnoticed";
  }
  Matrix scaled = actual;
  for (double& value : scaled.values) value *= 1 + 3 * tolerance;
  EXPECT_FALSE(Agrees(scaled, expected, tolerance)) << "a wrong factor went unnoticed";
}

void ExpectAgrees(const char* what, const Buffer& actual, const Matrix& expected, DType dtype) {
  ExpectAgrees(what, actual.Get(), expected, Tolerance(dtype));
  EXPECT_TRUE(actual.PaddingUntouched()) << what << ": wrote between the rows";
}

double RelativeError(const Matrix& actual, const Matrix& expected) {
  double errors = 0, squares = 0;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    errors += std::pow(actual.values[i] - expected.values[i], 2);
    squares += std::pow(expected.values[i], 2);
  }
  return std::sqrt(errors / squares);
}

void ExpectAgreesAsAWhole(const char* what, const Buffer& actual, const Matrix& expected) {
  SCOPED_TRACE(what);
  constexpr double kTolerance = 2e-2;
  EXPECT_LE(RelativeError(actual.Get(), expected), kTolerance);
  EXPECT_TRUE(actual.PaddingUntouched()) << "wrote between the rows";
  Matrix scaled = actual.Get(), cleared = actual.Get();
  for (double& value : scaled.values) value *= 1 + 3 * kTolerance;
  EXPECT_GT(RelativeError(scaled, expected), kTolerance) << "a wrong factor went unnoticed";
  std::fill(cleared.values.end() - std::ssize(cleared.values) / 8, cleared.values.end(), 0);
  EXPECT_GT(RelativeError(cleared, expected), kTolerance) << "a missing part went unnoticed";
}

Matrix FiniteDifferences(Matrix x, const std::function<double(const Matrix&)>& f, double step) {
  Matrix gradient(x.rows, x.columns);
  for (size_t i = 0; i < x.values.size(); ++i) {
    const double value = x.values[i];
    x.values[i] = value + step;
    const double above = f(x);
    x.values[i] = value - step;
    const double below = f(x);
    x.values[i] = value;
    gradient.values[i] = (above - below) / (2 * step);
  }
  return gradient;
}

double Dot(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (size_t i = 0; i < a.values.size(); ++i) sum += a.values[i] * b.values[i];
  return sum;
}

void ExpectSameBitsForAnyThreads(const std::function<std::string()>& run) {
  if (OnGpu()) {
    EXPECT_TRUE(run() == run()) << "bits differ from run to run";
    return;
  }
  const int before = MaxThreads();
  SetThreads(1);
  const std::string one = run();
  for (const int threads : {2, 3}) {
    SetThreads(threads);
    EXPECT_TRUE(run() == one) << "bits differ with " << threads << " threads";
  }
  SetThreads(before);
}

const std::vector<DType>& AllFloatTypes() {
  static const std::vector<DType> types = {DType::kFloat32, DType::kBFloat16, DType::kFloat64};
  return types;
}

const std::vector<DType>& FloatTypes() {
  static const std::vector<DType> types = OnGpu()
                                              ? std::vector<DType>{DType::kFloat32, DType::kBFloat16}
                                              : std::vector<DType>{DType::kFloat32, DType::kFloat64, DType::kBFloat16};
  return types;
}

const std::vector<DType>& SumTypes() {
  static const std::vector<DType> types =
      OnGpu() ? std::vector<DType>{DType::kFloat32} : std::vector<DType>{DType::kFloat32, DType::kFloat64};
  return types;
}

}  // namespace isthmus::reference
