// Checks that every head and every block must pass, whatever it computes: of a tiny model that has it, on every mesh of
// the world. A new part's test registers the part, names it in TinyOptions, and calls CheckPart.
#ifndef ISTHMUS_TESTS_SUPPORT_PART_CHECKS_H_
#define ISTHMUS_TESTS_SUPPORT_PART_CHECKS_H_

#include "tests/support/tiny_model.h"

namespace isthmus::testing {

// Sizes that one to three tensor ranks can share.
TinyOptions PartOptions();

// All of what follows. Collective over the world.
void CheckPart(const TinyOptions& options);

// Returns the largest error of a parameter's gradient in a random direction, as a share of its norm. Differences of the
// loss that a step trains by give the true value. In fp64, on one rank.
double WorstGradientError(const TinyOptions& options);
// In fp64: the losses of some steps are those of one rank alone, with and without sequence parallelism, a sharded
// optimizer, recomputation and micro-batches. They fall.
void ExpectSameTrainingOnEveryMesh(const TinyOptions& options);
// A rank holds as much memory as is planned for it.
void ExpectPlannedMemory(const TinyOptions& options);
// The products of a dry run are those that the parts state (FlopsPerToken in model/model.h), on one rank. The statement
// may add a twentieth of other work, and lack the share `rounding`.
void ExpectStatedProducts(const TinyOptions& options, double rounding = 1e-9);
// The calls of a measured step are those of its dry run, on every mesh.
void ExpectPlannedCalls(const TinyOptions& options);
// Every mesh loads what one mesh saves, and trains on. It has the same bits if it is the same mesh.
void ExpectResumeOnEveryMesh(const TinyOptions& options);
// A measured step gives the figures of one rank alone, all of them, and its decomposition's error is rounding. A head
// that is not linear gives the reason instead.
void ExpectSameFiguresOnEveryMesh(const TinyOptions& options);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_PART_CHECKS_H_
