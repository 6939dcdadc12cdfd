// The learning rate over a run: linear warm-up, then constant, linear, cosine (Loshchilov & Hutter 2017,
// arXiv:1608.03983) or warm-up–stable–decay (Hu et al. 2024, arXiv:2404.06395).
//
//   rate(step, time) = peak · warm-up · the lower of decay(by steps) and decay(by time)
//
//   warm-up    step / warmup_steps, at most 1: the peak is reached at step warmup_steps
//   decay      from 1 to final_ratio as a share goes from 0 to 1; CONSTANT: always 1
//   by steps   the share of the steps after the warm-up that are over: 0 at its end, 1 at the last step; of a run that
//   is
//              all warm-up it stays 0
//   by time    the share of max_seconds that is over, from the start of the run, in the warm-up too: whenever the time
//              ends, be it in the warm-up, the decay is complete. Without max_seconds: 0
//
// WARMUP_STABLE_DECAY decays, linearly, over the last decay_fraction of all steps, or from the end of the warm-up where
// that is later, and over the last decay_fraction of max_seconds. With a decay_fraction of 0 it never decays.
//
// A function of the step and of the time alone, without jumps: what a resumed run needs is how long it has run.
#ifndef ISTHMUS_MODEL_SCHEDULE_H_
#define ISTHMUS_MODEL_SCHEDULE_H_

#include <cstdint>

#include "proto/config.pb.h"

namespace isthmus {

// The learning rate of `step` (from 1, to schedule.steps) with the peak rate `peak`. `elapsed_seconds`: of training,
// over all starts of the run; only used with schedule.max_seconds.
double LearningRate(const proto::ScheduleConfig& schedule, double peak, int64_t step, double elapsed_seconds);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_SCHEDULE_H_
