// A list holds the kinds of a part of models, by name: those of the program and those that were added to them.
#ifndef ISTHMUS_MODEL_KIND_LIST_H_
#define ISTHMUS_MODEL_KIND_LIST_H_

#include <algorithm>
#include <list>
#include <string>
#include <utility>
#include <vector>

namespace isthmus {

// `Kind` must have a member `name`. Pointers to kinds stay valid.
template <typename Kind>
class KindList {
 public:
  explicit KindList(std::vector<Kind> kinds)
      : kinds_(std::make_move_iterator(kinds.begin()), std::make_move_iterator(kinds.end())) {}

  // Returns null if there is none of that name.
  const Kind* Find(const std::string& name) const {
    const auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& kind) { return kind.name == name; });
    return found == kinds_.end() ? nullptr : &*found;
  }
  // Replaces the kind of the same name, if there is one.
  void Add(Kind kind) {
    const auto found =
        std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& one) { return one.name == kind.name; });
    if (found == kinds_.end()) {
      kinds_.push_back(std::move(kind));
    } else {
      *found = std::move(kind);
    }
  }
  // Returns the names for messages, in the order of the list.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const Kind& kind : kinds_) names.push_back(kind.name);
    return names;
  }

 private:
  std::list<Kind> kinds_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_KIND_LIST_H_
