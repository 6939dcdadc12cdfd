// HeadFigures are the figures of the head decomposition (DESIGN 4; arXiv:2603.10145). Symbols are as there. N are the
// tokens of the step, V the vocabulary, D the width that enters the head (the rank of a head W = U E). G = ∂L/∂Z is the
// gradient of the mean loss, and G_∥ its projection on the column space of W. A = G W, B = Gᵀ H.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_FIGURES_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_FIGURES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/measure/equal_norm_steps.h"
#include "model/measure/head_controls.h"
#include "model/measure/head_intervals.h"
#include "model/measure/histogram.h"
#include "model/measure/visible_shares.h"
#include "proto/telemetry.pb.h"

namespace isthmus {

// A part is a set of vocabulary rows: a tensor rank's shard, or a bucket of frequency. Its lost energy does not follow
// from these two figures. G_∥ and G_⊥ are orthogonal over the whole vocabulary, not over a part of it, and the
// projection moves energy between parts. Over all parts each of the two sums up to the whole head's.
struct HeadPart {
  int64_t rows = 0;
  double logit_gradient_energy = 0;  // ‖G[:, rows]‖²
  double retained_energy = 0;        // ‖G_∥[:, rows]‖²; NaN where it was not measured
};

// This is the rank of a head that could not be factored within a step.
inline constexpr int64_t kUnknownRank = -1;

struct HeadFigures {
  // Empty if everything was measured; otherwise the reason. In that case the figures of `scalars` that need G_∥ are
  // absent, the retained energies of shards and buckets are NaN, and `retained_ratio` is empty.
  std::string not_measured;
  // Only `visible` is measured of a head that is not linear.
  bool linear = true;
  int64_t tokens = 0, vocabulary = 0, width = 0;
  double loss = 0;
  // All figures that are one number. The record's definition is their list (proto/telemetry.proto), and head_sums.cc
  // computes them: a new figure is added in these two files. A figure is absent where it was not measured or is not
  // known yet. A mean over fewer than two rows is absent, too. The record's lists and histograms are empty: they are
  // the members around it.
  proto::HeadRecord scalars;
  Histogram retained_ratio{RetainedRatioBounds()};  // over tokens
  Histogram token_gradient{TokenGradientBounds()};
  std::vector<HeadPart> shards;   // by tensor rank
  std::vector<HeadPart> buckets;  // by frequency, kBucketPercent
  // Singular values of the head itself, W or the product U E: s_1 >= s_2 >= …, min(V, D) of them. The list is empty if
  // they are not known yet.
  std::vector<double> singular_values;
  // Singular values of G over n sampled tokens, descending, if they are above sqrt(n ε) of the largest. ε is the
  // rounding unit of the arithmetic of G Gᵀ. They are roots of its eigenvalues, so smaller ones are not known.
  std::vector<double> sampled_singular_values;
  std::optional<EqualNormSteps> equal_norm_steps;  // of the same tokens; of tensors in memory alone, if asked for
  std::optional<HeadIntervals> intervals;          // of tensors in memory alone, if asked for
  std::optional<HeadControls> controls;            // the same
  std::optional<VisibleShares> visible;            // if asked for; of a head that is not linear, too
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_FIGURES_H_
