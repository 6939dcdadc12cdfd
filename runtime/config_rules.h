// Rules that a configuration must keep. Each stands beside the part that it judges; all add to one ConfigRules, which
// keeps the first that is broken.
#ifndef ISTHMUS_RUNTIME_CONFIG_RULES_H_
#define ISTHMUS_RUNTIME_CONFIG_RULES_H_

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

// A factor of a size: the field that it comes from, or a product of fields, and its value, 1 at least.
struct ConfigFactor {
  absl::string_view field;  // a literal
  int64_t value = 0;
};

// Fields are named by their path: "model.heads". After a broken rule the others change nothing. Check status() before a
// rule whose arithmetic needs sound numbers.
class ConfigRules {
 public:
  static constexpr double kLarge = 1e30;
  // With this limit a thousand bytes of each element are still far from 2^63.
  static constexpr int64_t kMostElements = int64_t{1} << 50;
  // The limit for features of a row, and for heads. A product of two of them fits into 64 bits.
  static constexpr int64_t kMostFeatures = int64_t{1} << 24;

  // `source` begins the message: the configuration's file.
  explicit ConfigRules(absl::string_view source) : source_(source) {}

  // Unless `kept`, the rule is broken: "source: field: found; accepted".
  template <typename T>
  void Require(bool kept, absl::string_view field, T found, absl::string_view accepted) {
    if (kept || !status_.ok()) return;
    status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", field, ": ", found, "; ", accepted));
  }
  template <typename T>
  void AtLeast(T least, absl::string_view field, T found) {
    Require(found >= least, field, found, absl::StrCat("needs at least ", least));
  }
  // Requires a whole number in [least, most].
  void Within(int64_t least, int64_t most, absl::string_view field, int64_t found);
  // Requires a finite number in [least, most]. A `most` of kLarge is none.
  void Between(double least, double most, absl::string_view field, double found);
  // Requires a finite number above 0.
  void Positive(absl::string_view field, double found);
  // Requires that the product of the factors, a size in `what`, is at most `most`. The product may be beyond 64 bits.
  void Product(const std::vector<ConfigFactor>& factors, int64_t most = kMostElements,
               absl::string_view what = "elements");
  // Requires that `found` is a multiple of mesh.tensor, which is `tensor`, 1 at least.
  void DivisibleByTensor(absl::string_view field, int64_t found, int64_t tensor);

  // Returns OK, or InvalidArgument for the first broken rule.
  const absl::Status& status() const { return status_; }

 private:
  std::string source_;
  absl::Status status_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CONFIG_RULES_H_
