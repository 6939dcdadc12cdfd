// The decompositions of a sweep with their figures, and what they say together: over the seeds of an arm in one context.
#ifndef ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_RESULTS_H_
#define ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_RESULTS_H_

#include <absl/types/span.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/sweep/decomposition_figures.h"
#include "launch/sweep/decompositions.h"
#include "launch/sweep/survey.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

struct DecompositionResult {
  PlannedDecomposition planned;
  std::optional<DecompositionFigures> figures;
  std::string problem;  // why there are none
};

// Reads the figures of those that `ended` says have finished. Any other has a problem.
std::vector<DecompositionResult> DecompositionResultsOf(const proto::SweepConfig& config,
                                                        absl::Span<const PlannedDecomposition> planned,
                                                        const RunResults& ended);

// An arm in one combination of the axes' values, or a named checkpoint, in one context.
struct DecompositionGroup {
  std::string cell, name;  // CellText, and the arm or the checkpoint
  int64_t sequence_length = 0;
  std::vector<const DecompositionFigures*> seeds;
};
// Returns groups in the order in which their first members come. Those without figures are in none.
std::vector<DecompositionGroup> GroupsOf(const proto::SweepConfig& config,
                                         absl::Span<const DecompositionResult> results);

// Returns the mean of a figure over the seeds with Student's interval. Of one seed, it is the figure with its own interval
// of resamples, which says nothing of other seeds. Seeds that lack the figure are left out.
Measured OverSeeds(const DecompositionGroup& group, const std::function<Measured(const DecompositionFigures&)>& figure,
                   double confidence);

// Returns the mean over the seeds of a control, its ends among it. Heads of one rank and vocabulary are drawn alike, so that
// seeds are no draws of their own.
Measured ControlOverSeeds(const DecompositionGroup& group, std::optional<ControlGain> DecompositionFigures::*control);

// How many of some gains are beyond what they are compared with (SideOf).
struct GainCount {
  int64_t all = 0, above = 0, below = 0;  // that are there
  double lowest = 0, highest = 0;         // values

  // Counts one, unless it was not measured.
  void Add(const Measured& gain, int side);
};

// Returns the sentence that says what some gains show, as text. `whose` begins it ("trained"), and `than` is what they are
// compared with. No gain is called beyond it unless its interval is.
std::string GainSentence(const std::string& whose, const std::string& than, const GainCount& count);
// Returns such sentences: of each arm and named checkpoint over all contexts and seeds, and of the controls.
std::vector<std::string> GainSentences(absl::Span<const DecompositionGroup> groups);
// Returns them as lines, and what has failed.
std::string DecompositionsText(const proto::SweepConfig& config, absl::Span<const DecompositionResult> results);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_RESULTS_H_
