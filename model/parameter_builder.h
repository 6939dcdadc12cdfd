// Collects what the parts of a model declare of their parameters into the table of one rank.
//
// Parts declare in the order of the forward pass. A segment ends where the gradients of what was declared become
// complete at the same moment of the backward pass.
#ifndef ISTHMUS_MODEL_PARAMETER_BUILDER_H_
#define ISTHMUS_MODEL_PARAMETER_BUILDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "parallel/shard.h"

namespace isthmus {

struct ParameterDeclaration {
  std::string name;  // after the builder's prefix: "attention.q_proj.weight"
  ParameterRole role = ParameterRole::kMixer;
  int64_t rows = 0;  // of the whole parameter
  int64_t columns = 0;
  Sharding sharding = Sharding::kReplicated;
  Range shard;                         // rows or columns of this rank; ignored if replicated
  double init_mean = 0, init_std = 0;  // of the normal initial values
  // The initial values of the whole parameter, row by row, in place of normal ones. Null: none.
  std::shared_ptr<const std::vector<double>> init_values;
  bool decay = true;        // weight decay applies
  bool multiplies = false;  // each token is multiplied by the matrix once (FlopsPerToken in model/model.h)
  GradientPart gradient = GradientPart::kWhole;
};

class ParameterBuilder {
 public:
  // Names of a family's parameters in other programs' files; empty where those have none.
  using ForeignName = std::function<std::string(const std::string& name)>;

  // `data_ranks`: segments are padded so that every data rank can own an equal part (parallel/gradient_reducer.h).
  ParameterBuilder(int tensor_ranks, int data_ranks, ForeignName foreign_name = nullptr);

  // Begins the names that follow: "layers.3.".
  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }
  ParameterHandle Add(const ParameterDeclaration& declaration) { return AddPacked({declaration}); }
  // Parameters that lie one behind another without a gap, so that a handle sees them as one matrix. All have as many
  // columns, and none but the last is cut by columns.
  ParameterHandle AddPacked(const std::vector<ParameterDeclaration>& declarations);
  void EndSegment();

  ParameterTable Take() { return std::move(table_); }

 private:
  void Append(const ParameterDeclaration& declaration, bool packed);

  int tensor_ranks_, data_ranks_;
  ForeignName foreign_name_;
  std::string prefix_;
  ParameterTable table_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_PARAMETER_BUILDER_H_
