#include "ops/library_versions.h"

#include <absl/strings/str_cat.h>

#include <cstdint>

#include "ops/cuda/library_versions.h"
#include "runtime/backends.h"

namespace isthmus {
namespace {

// Reads the number that the libraries use: 10000 · major + 100 · minor + patch.
std::string Text(int64_t version) {
  if (version == 0) return "";
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace

std::string CublasLtVersion() {
  int64_t version = 0;
  if constexpr (kHasCuda) version = cuda::CublasLtVersionNumber();
  return Text(version);
}

std::string CudnnVersion() {
  int64_t version = 0;
  if constexpr (kHasCuda) version = cuda::CudnnVersionNumber();
  return Text(version);
}

}  // namespace isthmus
