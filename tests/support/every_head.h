// All kinds of heads that the program has, each with the settings that it needs, for tests that a new kind meets by
// itself.
#ifndef ISTHMUS_TESTS_SUPPORT_EVERY_HEAD_H_
#define ISTHMUS_TESTS_SUPPORT_EVERY_HEAD_H_

#include <string>
#include <vector>

namespace isthmus::testing {

struct SmallHead {
  std::string kind;
  std::string settings;  // of model.head besides its kind, as text
  bool tied = false;     // model.tied_embeddings
};

// Returns all kinds of HeadNames(). One without an entry in the table fails the test that asks.
std::vector<SmallHead> EveryHead();

// Returns model.head and model.tied_embeddings as text of a model.
std::string ModelText(const SmallHead& head);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_EVERY_HEAD_H_
