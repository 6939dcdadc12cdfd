// The program's version, for run records and checkpoints.
#ifndef ISTHMUS_RUNTIME_VERSION_H_
#define ISTHMUS_RUNTIME_VERSION_H_

namespace isthmus {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_VERSION_H_
