// Named places at which tests make one rank fail. In the program they do nothing: it has runtime/fault_point.cc. Tests
// build a second program from the same libraries, `isthmus_with_faults`, with tests/faults/fault_point.cc instead.
#ifndef ISTHMUS_RUNTIME_FAULT_POINT_H_
#define ISTHMUS_RUNTIME_FAULT_POINT_H_

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// `name` is "phase.place", for example "checkpoint.rename". Never call it per element: it costs a call.
void FaultPoint(const char* name);
// Marks that `data`, on the stream's device, has just been computed; a test may spoil it.
void FaultPoint(const char* name, const Tensor& data, const Stream& stream);
// Returns how many times faster than the clock the deadlines of collectives pass: 1, unless a test changes it.
double FaultHaste();

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_FAULT_POINT_H_
