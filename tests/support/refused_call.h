// Simulates refusals of a file system or a limit that a test can't arrange: the kernel refuses system calls to a child.
#ifndef ISTHMUS_TESTS_SUPPORT_REFUSED_CALL_H_
#define ISTHMUS_TESTS_SUPPORT_REFUSED_CALL_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace isthmus::testing {

// Returns the result of `work` in a child of this process. In it, and in the programs that it starts, these system
// calls fail with `error`. Returns nullopt if the kernel has no such filters.
std::optional<std::string> InChildWithout(const std::vector<int>& calls, int error,
                                          const std::function<std::string()>& work);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_REFUSED_CALL_H_
