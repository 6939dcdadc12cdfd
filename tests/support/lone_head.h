// One micro-batch of a head alone, in any precision. Hidden states and the head's weights are drawn numbers that bf16
// has, so that all precisions begin with the same.
#ifndef ISTHMUS_TESTS_SUPPORT_LONE_HEAD_H_
#define ISTHMUS_TESTS_SUPPORT_LONE_HEAD_H_

#include <map>
#include <string>

#include "model/algebra/matrix.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {

struct LoneHead {
  double loss = 0;                        // the mean
  std::map<std::string, Matrix> results;  // gradients by the parameters' names, and "hidden": of the hidden states
};

// Trains one micro-batch on one rank.
LoneHead TrainLoneHead(const TinyOptions& options);

// Expects of fp32 and bf16 the loss and all gradients of fp64 (DESIGN 6). A gradient that is off by one part in ten
// would be noticed.
void ExpectNarrowHeadsAgree(const TinyOptions& options);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_LONE_HEAD_H_
