// Names of the cases of parameterised tests. Without a name of its own a case is listed with the bytes of its parameter.
#ifndef ISTHMUS_TESTS_SUPPORT_CASE_NAME_H_
#define ISTHMUS_TESTS_SUPPORT_CASE_NAME_H_

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>
#include <gtest/gtest.h>

#include <string>

namespace isthmus::testing {

// For INSTANTIATE_TEST_SUITE_P. A case's name is its number and the beginning of `text`, a member of its parameter.
// Other characters than letters and digits become underscores.
template <auto kText>
struct CaseName {
  template <typename Param>
  std::string operator()(const ::testing::TestParamInfo<Param>& info) const {
    constexpr size_t kMost = 60;
    std::string name = absl::StrCat(info.index, "_");
    for (const char c : absl::string_view(info.param.*kText).substr(0, kMost)) {
      name += absl::ascii_isalnum(static_cast<unsigned char>(c)) ? c : '_';
    }
    return name;
  }
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_CASE_NAME_H_
