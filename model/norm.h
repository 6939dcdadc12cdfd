// A norm at the entrance of a block or of the head, and the kinds of norms. Each kind is one file beside this one and
// one line in norm.cc. A model's norms are all of the kind that its family names (model/families/family.h).
#ifndef ISTHMUS_MODEL_NORM_H_
#define ISTHMUS_MODEL_NORM_H_

#include <absl/status/status.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

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
  virtual ~Norm() = default;

  virtual void Declare(ParameterBuilder& parameters) = 0;
  // Takes views of the parameters. `parameters` must outlive the norm.
  virtual void Bind(const ParameterStore& parameters) = 0;
  // Places what Forward keeps for Backward. `prefix` begins the tensors' names: "layers.3.".
  virtual void Place(const std::string& prefix, TensorPlacer& placer) = 0;
  // Places memory that Backward needs, which all norms of a model share.
  virtual Tensor PlaceWorkspace(TensorPlacer& placer) const = 0;

  // y = norm(x + addend), sum = x + addend, all [local tokens, D] of the compute type. Without an addend `sum` is not
  // written. sum may alias x; y aliases nothing.
  virtual absl::Status Forward(const Tensor& x, const Tensor& addend, const Tensor& sum, const Tensor& y,
                               Stream& stream) const = 0;
  // Adds the gradients of parameters, from grad_y [local tokens, D]. The gradient of the norm's input, which is x, is
  // added to grad_x. It replaces grad_x where `accumulate` is false.
  virtual absl::Status Backward(const Tensor& grad_y, const Tensor& x, const Tensor& grad_x, bool accumulate,
                                const Tensor& workspace, Stream& stream) const = 0;

  // Returns the tensor that Forward kept, for messages.
  virtual NamedTensor Saved() const = 0;
};

// The material of a norm.
struct NormRequest {
  std::string name;  // begins the names of its parameters and tensors: "attention_norm"
  const PartSetting& setting;
};

struct NormKind {
  std::string name;
  std::function<std::unique_ptr<Norm>(const NormRequest&)> make;
};

// Null if there is none of that name.
const NormKind* FindNorm(const std::string& name);
// In the order of the list, for messages.
std::vector<std::string> NormNames();

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_NORM_H_
