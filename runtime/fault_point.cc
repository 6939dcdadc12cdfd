#include "runtime/fault_point.h"

namespace isthmus {

void FaultPoint(const char*) {}
void FaultPoint(const char*, const Tensor&, const Stream&) {}

double FaultHaste() { return 1; }

}  // namespace isthmus
