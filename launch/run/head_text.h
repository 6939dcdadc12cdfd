// Writes the head's figures at the end of a run, for people.
#ifndef ISTHMUS_LAUNCH_RUN_HEAD_TEXT_H_
#define ISTHMUS_LAUNCH_RUN_HEAD_TEXT_H_

#include <string>

#include "model/measure/head_figures.h"

namespace isthmus {

// Says how much was lost, beside the loss of a head in random position of that rank. With several shards it says how
// much of the gradient's energy lies in each, before and after the projection. The text has whole lines.
std::string HeadText(const HeadFigures& head);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_HEAD_TEXT_H_
