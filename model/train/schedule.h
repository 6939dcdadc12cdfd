// Over a run the learning rate has a linear warm-up, then it is constant, linear, cosine (Loshchilov & Hutter 2017,
// arXiv:1608.03983) or warm-up–stable–decay (Hu et al. 2024, arXiv:2404.06395).
//
//   rate(step, time) = peak · warm-up · the lower of decay(by steps) and decay(by time)
//
//   warm-up    step / warmup_steps, at most 1: step warmup_steps reaches the peak
//   decay      falls from 1 to final_ratio while a share rises from 0 to 1; CONSTANT: always 1
//   by steps   the share of the steps after the warm-up that are over: 0 at its end, 1 at the last step;
//              always 0 if the run is all warm-up
//   by time    the share of max_seconds that is over since the start of the run, warm-up included; 0 without
//              max_seconds. The decay is complete when the time ends, even within the warm-up.
//
// WARMUP_STABLE_DECAY decays linearly at the end of the run. By steps it decays over the last decay_fraction of all
// steps, or from the end of the warm-up if that is later. By time it decays over the last decay_fraction of
// max_seconds. With a decay_fraction of 0 it never decays.
//
// The rate depends on the step and the time alone, without jumps. A resumed run only has to know how long it has run.
#ifndef ISTHMUS_MODEL_TRAIN_SCHEDULE_H_
#define ISTHMUS_MODEL_TRAIN_SCHEDULE_H_

#include <cstdint>

#include "proto/config.pb.h"

namespace isthmus {

// Returns the learning rate of `step` (from 1, to schedule.steps) with the peak rate `peak`. `elapsed_seconds` is the
// training time over all starts of the run; it is only used with schedule.max_seconds.
double LearningRate(const proto::ScheduleConfig& schedule, double peak, int64_t step, double elapsed_seconds);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_SCHEDULE_H_
