// Writes the figures of the head decomposition as one JSON object (DESIGN 4.5).
#ifndef ISTHMUS_LAUNCH_COMMANDS_HEAD_JSON_H_
#define ISTHMUS_LAUNCH_COMMANDS_HEAD_JSON_H_

#include <string>

#include "model/measure/head_figures.h"

namespace isthmus {

// The object is indented, with a newline at the end. Doubles keep all their digits; lists of singular values are
// complete. A head that is not linear has `visible_share` and the reason alone. If a figure is null, `not_measured` names it and gives the reason.
std::string HeadJson(const HeadFigures& measurement);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_HEAD_JSON_H_
