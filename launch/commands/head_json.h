// The figures of the head decomposition as one JSON object (DESIGN 4.5).
#ifndef ISTHMUS_LAUNCH_COMMANDS_HEAD_JSON_H_
#define ISTHMUS_LAUNCH_COMMANDS_HEAD_JSON_H_

#include <string>

#include "model/decomposition/head_figures.h"

namespace isthmus {

// Indented, with an end of line. Doubles keep all their digits; lists of singular values are complete. Where
// a figure is null, `not_measured` says which and why.
std::string HeadJson(const HeadFigures& measurement);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_HEAD_JSON_H_
