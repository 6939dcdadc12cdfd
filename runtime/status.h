// Propagation of absl::Status.
#ifndef ISTHMUS_RUNTIME_STATUS_H_
#define ISTHMUS_RUNTIME_STATUS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <utility>

// Returns from the enclosing function when `expression` is not OK. It is a macro because a function can't return for
// its caller.
#define ISTHMUS_RETURN_IF_ERROR(expression)                                                      \
  do {                                                                                           \
    if (absl::Status isthmus_status = (expression); !isthmus_status.ok()) return isthmus_status; \
  } while (false)

#define ISTHMUS_CONCATENATE_(a, b) a##b
#define ISTHMUS_CONCATENATE(a, b) ISTHMUS_CONCATENATE_(a, b)

// `ISTHMUS_ASSIGN_OR_RETURN(auto x, MakeX());` assigns the value or returns the status.
#define ISTHMUS_ASSIGN_OR_RETURN(left, expression) \
  ISTHMUS_ASSIGN_OR_RETURN_(ISTHMUS_CONCATENATE(isthmus_status_or_, __LINE__), left, expression)
#define ISTHMUS_ASSIGN_OR_RETURN_(holder, left, expression) \
  auto holder = (expression);                               \
  if (!holder.ok()) return std::move(holder).status();      \
  left = *std::move(holder)

#endif  // ISTHMUS_RUNTIME_STATUS_H_
