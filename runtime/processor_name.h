// The name of this machine's processor, for people.
#ifndef ISTHMUS_RUNTIME_PROCESSOR_NAME_H_
#define ISTHMUS_RUNTIME_PROCESSOR_NAME_H_

#include <string>

namespace isthmus {

// Returns "AMD EPYC 9654 96-Core Processor", as the kernel calls it; empty if that can't be read.
std::string ProcessorName();

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_PROCESSOR_NAME_H_
