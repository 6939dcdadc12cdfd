// The device that a test program's operators run on: the CPU, or with `--device=cuda` a GPU.
#ifndef ISTHMUS_TESTS_SUPPORT_TEST_DEVICE_H_
#define ISTHMUS_TESTS_SUPPORT_TEST_DEVICE_H_

#include <absl/status/status.h>

#include "runtime/stream.h"

namespace isthmus::reference {

// Reads the program's arguments. Errors: FailedPrecondition if there is no such device.
absl::Status ChooseTestDevice(int argc, char** argv);

Stream& TestStream();
inline bool OnGpu() { return TestStream().device() == Device::kCuda; }

}  // namespace isthmus::reference

#endif  // ISTHMUS_TESTS_SUPPORT_TEST_DEVICE_H_
