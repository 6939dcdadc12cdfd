// The rules for a page of which nothing is read as other markup than was meant.
#ifndef ISTHMUS_TESTS_SUPPORT_MARKUP_H_
#define ISTHMUS_TESTS_SUPPORT_MARKUP_H_

#include <absl/strings/string_view.h>

#include <string>

namespace isthmus::testing {

// Checks that `text` is well-formed XML content. Elements must be closed in order, and attributes quoted and given
// once. Only the five entities and numbers are allowed, and no control characters. Returns what is wrong first, with
// its surroundings, or nothing.
std::string WrongMarkup(absl::string_view text);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_MARKUP_H_
