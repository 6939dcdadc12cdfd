// Writes counts in messages for people.
#ifndef ISTHMUS_LAUNCH_RUN_COUNT_TEXT_H_
#define ISTHMUS_LAUNCH_RUN_COUNT_TEXT_H_

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <cstdint>
#include <string>

namespace isthmus {

// Writes "5.02 million"; a count that this would round is written as it is.
inline std::string CountText(int64_t count) {
  return count < 100'000 ? absl::StrCat(count) : absl::StrFormat("%.2f million", static_cast<double>(count) / 1e6);
}

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_COUNT_TEXT_H_
