// What a file system or a limit refuses, where it can't be had for a test: the kernel refuses system calls to a child.
#ifndef ISTHMUS_TESTS_SUPPORT_REFUSED_CALL_H_
#define ISTHMUS_TESTS_SUPPORT_REFUSED_CALL_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace isthmus::testing {

// What `work` returns in a child of this process, and of the programs that it starts, in which these system calls fail
// with `error`. Nothing where the kernel has no such filters.
std::optional<std::string> InChildWithout(const std::vector<int>& calls, int error,
                                          const std::function<std::string()>& work);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_REFUSED_CALL_H_
