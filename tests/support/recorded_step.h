// A dry run beside a real step.
#ifndef ISTHMUS_TESTS_SUPPORT_RECORDED_STEP_H_
#define ISTHMUS_TESTS_SUPPORT_RECORDED_STEP_H_

#include "tests/support/tiny_model.h"

namespace isthmus::testing {

// Expects that a dry run has the calls of a real first step on this mesh of World(), measured or not. It compares every
// operator with its cost, and every collective with its group and bytes. If the dry run makes no call for many, the
// order is compared, too. Returns whether it is so. Collective.
bool ExpectSameCalls(const TinyOptions& options, bool measure);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_RECORDED_STEP_H_
