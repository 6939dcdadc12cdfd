// Where work runs, in order.
#ifndef ISTHMUS_RUNTIME_STREAM_H_
#define ISTHMUS_RUNTIME_STREAM_H_

#include <cstdint>

namespace isthmus {

enum class Device : uint8_t { kCpu, kCuda };

// An ordered queue of operators on one device. On the CPU an operator has finished when its call returns.
class Stream {
 public:
  explicit Stream(Device device = Device::kCpu) : device_(device) {}
  Device device() const { return device_; }

 private:
  Device device_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STREAM_H_
