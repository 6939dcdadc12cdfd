#include "tests/support/golden.h"

#include <absl/strings/str_cat.h>

#include <cmath>
#include <fstream>

#include "tests/support/paths.h"

namespace isthmus {
namespace {

using nlohmann::json;

// The integers share an exponent: element = value · 2^exponent.
GoldenTensor Decode(const json& encoded) {
  const auto shape = encoded.at("shape").get<std::vector<int64_t>>();
  const int exponent = encoded.at("exponent").get<int>();
  GoldenTensor tensor;
  tensor.rows = shape.size() == 1 ? 1 : shape.at(0);
  tensor.columns = shape.back();
  for (const json& value : encoded.at("values")) tensor.values.push_back(std::ldexp(value.get<double>(), exponent));
  return tensor;
}

GoldenTensors DecodeAll(const json& encoded) {
  GoldenTensors tensors;
  for (const auto& [name, tensor] : encoded.items()) tensors[name] = Decode(tensor);
  return tensors;
}

}  // namespace

absl::StatusOr<Golden> LoadGolden(std::string_view variant) {
  const std::string path =
      absl::StrCat(testing::SourceFolder(), "/tests/golden/transformer_", std::string(variant), ".json");
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": can't open; tools/golden/transformer.py writes it"));
  try {
    const json root = json::parse(file);
    Golden golden;
    golden.config = root.at("config");
    golden.optimizer = root.at("optimizer");
    golden.ids = root.at("ids").get<std::vector<std::vector<int32_t>>>();
    golden.targets = root.at("targets").get<std::vector<std::vector<int32_t>>>();
    golden.initial = DecodeAll(root.at("initial"));
    golden.hidden = Decode(root.at("hidden"));
    golden.logits = Decode(root.at("logits"));
    golden.gradients = DecodeAll(root.at("gradients"));
    golden.losses = root.at("losses").get<std::vector<double>>();
    golden.gradient_norms = root.at("gradient_norms").get<std::vector<double>>();
    golden.final = DecodeAll(root.at("final"));
    golden.fp32_losses = root.at("fp32").at("losses").get<std::vector<double>>();
    golden.fp32_gradient_norms = root.at("fp32").at("gradient_norms").get<std::vector<double>>();
    golden.decomposition = root.at("decomposition");
    golden.decomposition_of_up = root.value("decomposition_of_up", json());
    return golden;
  } catch (const json::exception& fault) {
    return absl::DataLossError(absl::StrCat(path, ": ", fault.what()));
  }
}

}  // namespace isthmus
