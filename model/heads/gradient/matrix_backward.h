// Passes A R back in place of A = G W, with a matrix R [D, D] that follows from M = WᵀW. R is found before the first
// step and then every `interval` steps, in fp64. A run that resumes or goes back to an earlier step finds it anew.
#ifndef ISTHMUS_MODEL_HEADS_GRADIENT_MATRIX_BACKWARD_H_
#define ISTHMUS_MODEL_HEADS_GRADIENT_MATRIX_BACKWARD_H_

#include <absl/status/status.h>

#include <cstdint>
#include <limits>

#include "model/heads/gradient/backward.h"
#include "model/heads/gradient/head_gram.h"
#include "model/heads/gradient/norm_match.h"

namespace isthmus {

class MatrixBackward : public HeadBackward {
 public:
  MatrixBackward(const HeadBackwardRequest& request, bool match_norm)
      : setting_(request.setting),
        interval_(request.config.interval()),
        match_norm_(match_norm),
        gram_(request.shape, request.setting) {}

  void Place(int64_t chunk, TensorPlacer& placer) override;
  void Bind(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) override;
  absl::Status BeginStep(const HeadView& head, int64_t step) override;
  absl::Status Finish(const Tensor& plain, const Tensor& passed) override;
  double FlopsPerToken() const override;

 protected:
  // Turns M, fp64 [D, D], into R in the same place. Returns false if there is none: A is passed back then.
  virtual absl::StatusOr<bool> FindMatrix(const Tensor& gram, Stream& stream) = 0;

 private:
  static constexpr int64_t kNoStep = std::numeric_limits<int64_t>::max();

  absl::Status Multiply(const Tensor& plain, const Tensor& passed);

  const PartSetting& setting_;
  const int64_t interval_;
  const bool match_norm_;
  HeadGram gram_;
  NormMatch norm_;
  const TensorRegion* region_ = nullptr;
  Stream* stream_ = nullptr;
  bool found_ = false;               // R
  int64_t last_step_ = kNoStep;      // that has begun
  Tensor matrix_;                    // R [D, D], accumulation type
  Tensor wide_plain_, wide_passed_;  // [N, D] accumulation type, only if that is not the compute type
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_GRADIENT_MATRIX_BACKWARD_H_
