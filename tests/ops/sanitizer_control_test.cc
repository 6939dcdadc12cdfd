// Commits a fault on purpose, for tools/gpu-check: a memory checker that doesn't see this one sees none.
#include <gtest/gtest.h>

#include <cstdlib>

#include "ops/elementwise.h"
#include "runtime/arena.h"
#include "tests/support/reference.h"

namespace isthmus {
namespace {

TEST(SanitizerControl, ReadsBeyondItsMemory) {
  if (std::getenv("ISTHMUS_SANITIZER_CONTROL") == nullptr) GTEST_SKIP() << "only for compute-sanitizer";
  if (!reference::OnGpu()) GTEST_SKIP() << "needs --device=cuda";
  constexpr int64_t kHeld = 64, kRead = 4096;
  const auto arena = Arena::Allocate("control", kHeld * SizeOf(DType::kFloat32), Device::kCuda);
  ASSERT_TRUE(arena.ok()) << arena.status();
  const Tensor held = arena->At(0, DType::kFloat32, 1, kHeld), claimed(held.data, DType::kFloat32, 1, kRead);
  const reference::Buffer total(DType::kFloat64, 1, 1);
  // The driver's pages are larger than either: without a checker nothing happens.
  ASSERT_TRUE(AddSumOfSquares({.x = claimed, .total = total}, reference::TestStream()).ok());
  ASSERT_TRUE(reference::TestStream().Synchronize().ok());
}

}  // namespace
}  // namespace isthmus
