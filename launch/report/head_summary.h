// Sums up a run by the figures in which heads differ: one row of the table that puts them side by side.
#ifndef ISTHMUS_LAUNCH_REPORT_HEAD_SUMMARY_H_
#define ISTHMUS_LAUNCH_REPORT_HEAD_SUMMARY_H_

#include <absl/types/span.h>

#include <string>

#include "launch/report/run.h"

namespace isthmus::report {

// Figures that a run does not have are NaN. Those of the head are means over the last tenth of the records that have
// them: a single one is noisy.
struct HeadSummary {
  std::string title;      // "head of rank 16, backward preconditioned"; empty: the configuration is not known
  double parameters = 0;  // of the whole head; none of a head whose matrix is the embedding's
  double loss = 0;        // of training, smoothed (series.h), at the end
  double common_loss = 0;
  double validation_loss = 0;  // the last
  double lost_norm_ratio = 0, isotropic_lost_norm_ratio = 0, alignment_gain = 0;
  double logit_cosine = 0, log_probability_cosine = 0;  // of single tokens' gradients
  double visible_cosine = 0, hidden_update_cosine = 0, conditioning_cosine = 0;
  double head_share = 0, blocks_share = 0, embedding_share = 0;  // of the first-order decrease
  double seconds_per_token = 0;                                  // by the median of the records' rates
};

// Returns the most tokens to which every run's smoothed training loss reaches, of the runs that have one; NaN if none
// has.
double CommonTokens(absl::Span<const Run> runs);

// `common_tokens` is the place of common_loss. It lies on a straight line between the points of the smoothed curve.
HeadSummary SummariseHead(const Run& run, double common_tokens);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_HEAD_SUMMARY_H_
