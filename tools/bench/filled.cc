#include "tools/bench/filled.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/status.h"

namespace isthmus {
namespace {

void* Allocate(int64_t bytes, Device device) {
  const auto memory = AllocateMemory("benchmark", bytes, device);
  if (memory.ok()) return *memory;
  std::fprintf(stderr, "%s\n", std::string(memory.status().message()).c_str());
  std::exit(4);
}

void Copy(const Tensor& from, const Tensor& to, const Stream& stream) {
  const absl::Status status = CopyFromHost(from, to, stream);
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  std::exit(4);
}

void Set(void* data, DType dtype, size_t i, double value) {
  switch (dtype) {
    case DType::kFloat64:
      static_cast<double*>(data)[i] = value;
      break;
    case DType::kFloat32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      break;
    case DType::kBFloat16:
      static_cast<BFloat16*>(data)[i] = BFloat16(static_cast<float>(value));
      break;
    default:
      break;  // zero
  }
}

// Makes the first numbers, which repeat. Their count is prime, so that no row of a matrix is like the next.
std::vector<char> Pattern(DType dtype, std::optional<double> value) {
  constexpr size_t kCount = 65537;
  std::vector<char> bytes(kCount * static_cast<size_t>(SizeOf(dtype)));
  for (size_t i = 0; i < kCount; ++i) {
    Set(bytes.data(), dtype, i, value.value_or(static_cast<double>(i * 2654435761 % 4096) / 1024 - 2));
  }
  return bytes;
}

}  // namespace

Filled::Filled(const Stream& stream, DType dtype, int64_t rows, int64_t columns, std::optional<double> value)
    : device_(stream.device()),
      tensor_(Allocate(rows * columns * SizeOf(dtype) + 1, device_), dtype, rows, columns) {  // never of no bytes
  const std::vector<char> pattern = Pattern(dtype, value);
  std::vector<char> bytes(static_cast<size_t>(tensor_.bytes()));
  for (size_t at = 0; at < bytes.size(); at += pattern.size()) {
    std::memcpy(bytes.data() + at, pattern.data(), std::min(pattern.size(), bytes.size() - at));
  }
  Copy(Tensor(bytes.data(), dtype, rows, columns), tensor_, stream);
}

Filled::Filled(const Stream& stream, std::vector<int32_t> values)
    : device_(stream.device()),
      tensor_(Allocate(static_cast<int64_t>(values.size() * sizeof(int32_t)), device_), DType::kInt32, 1,
              static_cast<int64_t>(values.size())) {
  Copy(Tensor(values.data(), DType::kInt32, 1, tensor_.columns), tensor_, stream);
}

Filled::~Filled() { FreeMemory(tensor_.data, device_); }

}  // namespace isthmus
