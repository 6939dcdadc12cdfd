// The norm at the entrance of a block or of the head: RMSNorm (ops/rms_norm.h) with its weight.
#ifndef ISTHMUS_MODEL_NORM_H_
#define ISTHMUS_MODEL_NORM_H_

#include <absl/status/status.h>

#include <string>

#include "model/parameter_builder.h"
#include "model/parameters.h"
#include "model/part_setting.h"
#include "runtime/arena.h"
#include "runtime/named_tensor.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class Norm {
 public:
  // `name` begins the names of the weight and of what is kept: "attention_norm". `setting` must outlive the norm.
  Norm(const PartSetting& setting, std::string name) : setting_(&setting), name_(std::move(name)) {}

  void Declare(ParameterBuilder& parameters);
  void Bind(const ParameterStore& parameters);
  // Places what Forward keeps for Backward.
  void Place(const std::string& prefix, TensorPlacer& placer);
  // Memory that Backward needs, which all norms may share.
  static Tensor PlaceWorkspace(const PartSetting& setting, TensorPlacer& placer);

  // y = norm(x + addend), sum = x + addend, all [local tokens, D]. Without an addend `sum` is not written. y may alias
  // x and addend as RmsNormForward allows.
  absl::Status Forward(const Tensor& x, const Tensor& addend, const Tensor& sum, const Tensor& y, Stream& stream) const;
  // From grad_y: the weight's gradient is added; that of the norm's input, which is x, is added to grad_x, or replaces
  // it where `accumulate` is false.
  absl::Status Backward(const Tensor& grad_y, const Tensor& x, const Tensor& grad_x, bool accumulate,
                        const Tensor& workspace, Stream& stream) const;

  // Returns the tensor that Forward kept, for messages.
  NamedTensor Saved() const { return {name_ + ".inverse", inverse_}; }

 private:
  const PartSetting* setting_;
  std::string name_;
  ParameterHandle parameter_;
  Tensor weight_, gradient_;  // [1, D]
  Tensor inverse_;            // [1, local tokens]
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_NORM_H_
