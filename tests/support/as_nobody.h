// Runs a check with the rights of an ordinary user, in tests that root runs.
#ifndef ISTHMUS_TESTS_SUPPORT_AS_NOBODY_H_
#define ISTHMUS_TESTS_SUPPORT_AS_NOBODY_H_

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace isthmus::testing {

// Runs `check` in a process of its own, and returns its result.
inline bool InOwnProcess(const std::function<bool()>& check) {
  const pid_t child = fork();
  if (child == 0) _exit(check() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Does the same in a process of a user without privileges.
inline bool AsNobody(const std::function<bool()>& check) {
  constexpr uid_t kNobody = 65534;
  return InOwnProcess([&] { return setgid(kNobody) == 0 && setuid(kNobody) == 0 && check(); });
}

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_AS_NOBODY_H_
