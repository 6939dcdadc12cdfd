// The learning rate over a run: linear warm-up, then constant, linear, cosine (Loshchilov & Hutter 2017,
// arXiv:1608.03983) or warm-up–stable–decay (Hu et al. 2024, arXiv:2404.06395).
#ifndef ISTHMUS_MODEL_SCHEDULE_H_
#define ISTHMUS_MODEL_SCHEDULE_H_

#include <cstdint>

#include "proto/config.pb.h"

namespace isthmus {

// How much of the run is over after the warm-up, at `step` (from 1) of schedule.steps: 0 at its end, 1 at the last
// step. With schedule.max_seconds it is the larger of that and the share of the time that is over, so that the decay is
// complete when the time is.
double ScheduleProgress(const proto::ScheduleConfig& schedule, int64_t step, double elapsed_seconds);

// The learning rate of a step with the peak rate `peak`.
double LearningRate(const proto::ScheduleConfig& schedule, double peak, int64_t step, double elapsed_seconds);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_SCHEDULE_H_
