// The head's figures at the end of a run, for people.
#ifndef ISTHMUS_LAUNCH_RUN_HEAD_TEXT_H_
#define ISTHMUS_LAUNCH_RUN_HEAD_TEXT_H_

#include <string>

#include "model/measure/head_figures.h"

namespace isthmus {

// What was lost, beside what a head in random position of that rank loses; with several shards how much of the
// gradient's energy lies in each, before and after the projection. Whole lines.
std::string HeadText(const HeadFigures& head);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_HEAD_TEXT_H_
