#include <gtest/gtest.h>

#include <iostream>

#include "tests/support/test_device.h"

int main(int argc, char** argv) {
  // CTest counts this status as skipped.
  constexpr int kSkipped = 77;
  testing::InitGoogleTest(&argc, argv);
  const absl::Status device = isthmus::reference::ChooseTestDevice(argc, argv);
  if (!device.ok()) {
    std::cout << "skipped: " << device.message() << "\n";
    return kSkipped;
  }
  const int failed = RUN_ALL_TESTS();
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  if (tests.test_to_run_count() == 0) {
    std::cout << "no test of that name\n";
    return 1;
  }
  return failed == 0 && tests.skipped_test_count() == tests.test_to_run_count() ? kSkipped : failed;
}
