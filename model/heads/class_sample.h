// The classes that a sampled softmax is over: the targets of a step, and others by chance.
#ifndef ISTHMUS_MODEL_HEADS_CLASS_SAMPLE_H_
#define ISTHMUS_MODEL_HEADS_CLASS_SAMPLE_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

namespace isthmus {

// Returns `count` of the classes 0 … V - 1, ascending: all that `target` [V] flags, and others with equal chances, none
// twice. If more are flagged, it returns all of those. The choice is a function of the flags, the seed and the step
// alone. Cost: O(V).
std::vector<int32_t> SampleClasses(absl::Span<const uint8_t> target, int64_t count, uint64_t seed, int64_t step);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_CLASS_SAMPLE_H_
