#include "tests/support/test_device.h"

#include <string_view>

#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus::reference {

Stream& TestStream() {
  static Stream stream;
  return stream;
}

absl::Status ChooseTestDevice(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--device=cuda") continue;
    ISTHMUS_RETURN_IF_ERROR(CudaDeviceCount().status());
    ISTHMUS_ASSIGN_OR_RETURN(TestStream(), OpenCudaStream(0));
  }
  return absl::OkStatus();
}

}  // namespace isthmus::reference
